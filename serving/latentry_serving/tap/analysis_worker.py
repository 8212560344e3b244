"""The analysis process: decodes captured calls and shows them to the consumers, away from the traffic.

``python -m latentry_serving.tap.analysis_worker LIMIT_BYTES`` reads frames from standard input until it ends and writes
verdicts to standard output.
"""

import io
import logging
import os
import select
import signal
import sys
import time
from collections.abc import Sequence

from latentry_serving.contract.metrics import SampleLoss
from latentry_serving.tap.analysis_decode import NonFiniteOutputs, ReceivedCall, SampleConsumer, received, samples
from latentry_serving.tap.analysis_frames import LENGTHS, MAX_VERDICTS, Finding, Verdict, write_verdicts
from latentry_serving.tap.logs import set_up_logging

log = logging.getLogger(__name__)

_NICE = 10
"""Traffic goes first where both want the same core."""
_GATHER_SECONDS = 0.05
"""How long verdicts wait for others to share a line: each line costs the forwarding loop a wake-up."""
_LONGEST_SECONDS = 0.25
"""How long they wait while samples keep coming: without news for long the process counts as stuck."""


def judge(call: ReceivedCall, consumers: Sequence[SampleConsumer], *, limit_bytes: int) -> Verdict:
    """Decodes one call and lets every consumer see its samples."""
    decoded = samples(call, limit_bytes=limit_bytes)
    if isinstance(decoded, SampleLoss):
        return Verdict(decoded, {})
    found: dict[Finding, int] = {}
    for sample in decoded:
        for consumer in consumers:
            for finding, count in consumer.consume(sample).items():
                found[finding] = found.get(finding, 0) + count
    return Verdict(None, found)


def serve(source: io.FileIO, sink: io.FileIO, consumers: Sequence[SampleConsumer], *, limit_bytes: int) -> None:
    """Answers frames until the source ends; a frame cut short by that has no answer."""
    verdicts: list[Verdict] = []
    flushed_s = time.monotonic()

    def flush() -> None:
        if verdicts:
            sink.write(write_verdicts(verdicts))
            verdicts.clear()

    while True:
        due = len(verdicts) >= MAX_VERDICTS or time.monotonic() - flushed_s > _LONGEST_SECONDS
        if due or not select.select([source], [], [], _GATHER_SECONDS)[0]:
            flush()
            flushed_s = time.monotonic()
        frame = _frame(source)
        if frame is None:
            flush()
            return
        try:
            verdicts.append(judge(received(*frame), consumers, limit_bytes=limit_bytes))
        except Exception:
            log.exception("a sample could not be analysed")
            verdicts.append(Verdict(SampleLoss.ANALYSIS_FAILED, {}))


def _frame(source: io.FileIO) -> tuple[bytes, bytearray] | None:
    """Head and payload of the next frame; None where the source ends before it does."""
    lengths = _exactly(source, LENGTHS.size)
    if lengths is None:
        return None
    head_bytes, payload_bytes = LENGTHS.unpack(lengths)
    head, payload = _exactly(source, head_bytes), _exactly(source, payload_bytes)
    return None if head is None or payload is None else (bytes(head), payload)


def _exactly(source: io.FileIO, size: int) -> bytearray | None:
    """``size`` bytes; None where the source ends before."""
    data = bytearray(size)
    view, filled = memoryview(data), 0
    while filled < size:
        count = source.readinto(view[filled:])
        if not count:
            return None
        filled += count
    return data


def main(arguments: Sequence[str]) -> None:
    """Runs until standard input ends: the tap closes it, or is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the tap still drains
    os.nice(_NICE)
    set_up_logging("INFO")
    with io.FileIO(0, closefd=False) as source, io.FileIO(1, "w", closefd=False) as sink:
        serve(source, sink, [NonFiniteOutputs()], limit_bytes=int(arguments[0]))


if __name__ == "__main__":
    main(sys.argv[1:])
