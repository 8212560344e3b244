"""The reading end of the pipe from the tap to the analysis process."""

import io
import select
from collections.abc import Iterator

from latentry_serving.tap.analysis_frames import LENGTHS, Frame

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
        self.ended = False
        """Whether the source is at its end. A frame that is cut short by it is none."""

    def wait(self, seconds: float) -> bool:
        """Whether there is something to read, the end of the pipe included, within so long."""
        return self._start < self._end or bool(select.select([self._source], [], [], seconds)[0])

    def here(self) -> Iterator[Frame]:
        """The frames that have been read, at least one, whole: waits for it, and for the rest of the last one."""
        while (frame := self._next()) is not None:
            yield frame
            if self._start == self._end:
                return
        self.ended = True

    def _next(self) -> Frame | None:
        lengths = self._exactly(LENGTHS.size)
        if lengths is None:
            return None
        head_bytes, request_bytes, response_bytes, time_s = LENGTHS.unpack(lengths)
        rest = self._exactly(head_bytes + request_bytes + response_bytes)
        if rest is None:
            return None
        view, cut = memoryview(rest).toreadonly(), head_bytes + request_bytes
        return Frame(bytes(view[:head_bytes]), time_s, view[head_bytes:cut], view[cut:])

    def _exactly(self, size: int) -> bytes | bytearray | None:
        """``size`` bytes of their own; None where the source ends before."""
        if size <= self._end - self._start:
            self._start += size
            return bytes(self._ahead[self._start - size : self._start])
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
