"""The reading end of the pipe from the tap to the analysis process."""

import io
import select

from latentry_serving.tap.analysis_frames import LENGTHS

_AHEAD_BYTES = 1 << 18


class FrameReader:
    """Frames out of a pipe, as ``analysis_frames`` describes them.

    Reads ahead: behind a queue of small calls one system call brings dozens of them. Three for each, which may each
    hand the core to somebody else, took longer than decoding.
    """

    def __init__(self, source: io.FileIO) -> None:
        self._source = source
        self._ahead = memoryview(bytearray(_AHEAD_BYTES))
        self._start = self._end = 0

    def wait(self, seconds: float) -> bool:
        """Whether there is something to read, the end of the pipe included, within so long."""
        return self._start < self._end or bool(select.select([self._source], [], [], seconds)[0])

    def next(self) -> tuple[bytes, bytearray] | None:
        """Head and payload of the next frame; None where the source ends before it does. Waits for the whole frame."""
        lengths = self._exactly(LENGTHS.size)
        if lengths is None:
            return None
        head_bytes, payload_bytes = LENGTHS.unpack(lengths)
        head, payload = self._exactly(head_bytes), self._exactly(payload_bytes)
        return None if head is None or payload is None else (bytes(head), payload)

    def _exactly(self, size: int) -> bytearray | None:
        """``size`` bytes of their own; None where the source ends before."""
        data = bytearray(size)
        view, filled = memoryview(data), 0
        while filled < size:
            if self._start == self._end and size - filled < _AHEAD_BYTES:
                self._start, self._end = 0, self._source.readinto(self._ahead) or 0
                if not self._end:
                    return None
            if self._start < self._end:
                count = min(size - filled, self._end - self._start)
                view[filled : filled + count] = self._ahead[self._start : self._start + count]
                self._start += count
            else:  # what is longer than all that is read ahead goes where it belongs at once
                count = self._source.readinto(view[filled:]) or 0
                if not count:
                    return None
            filled += count
        return data
