"""The analysis process: decodes captured calls and shows them to the consumers, away from the traffic.

``python -m latentry_serving.tap.analysis_worker SETUP`` reads frames from standard input until it ends and writes
verdicts and reports to standard output. SETUP is an ``AnalysisSetup`` as JSON.
"""

import io
import json
import logging
import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from latentry_serving.contract.metrics import SampleLoss
from latentry_serving.tap.analysis_decode import NonFiniteOutputs, ReceivedCall, SampleConsumer, received, samples
from latentry_serving.tap.analysis_frames import (
    CONTROL_HEAD,
    MAX_VERDICTS,
    Finding,
    Frame,
    Verdict,
    write_verdicts,
)
from latentry_serving.tap.analysis_pipe import FrameReader
from latentry_serving.tap.analysis_setup import AnalysisSetup
from latentry_serving.tap.logs import set_up_logging

if TYPE_CHECKING:
    from latentry_serving.tap.compare_recent import LiveInputs
    from latentry_serving.tap.monitor import Monitor

log = logging.getLogger(__name__)

_NICE = 10
"""While it imports and loads a profile: two seconds of CPU, which it would never get below everybody else."""
_GATHER_SECONDS = 0.05
"""How long verdicts wait for others to share a line: each line costs the forwarding loop a wake-up."""
_LONGEST_SECONDS = 0.25
"""How long they wait while samples keep coming: without news for long the process counts as stuck."""


class Companion(Protocol):
    """Works beside the verdicts, in the same thread."""

    def control(self, order: Mapping[str, Any], payload: bytes) -> None:
        """Does as the tap says."""

    def step(self) -> bytes | None:
        """Does what is due; a line for the tap, if any."""


class Companions:
    """Several as one."""

    def __init__(self, members: Sequence[Companion]) -> None:
        self._members = members

    def control(self, order: Mapping[str, Any], payload: bytes) -> None:
        """Tells all; each knows its own orders."""
        for member in self._members:
            member.control(order, payload)

    def step(self) -> bytes | None:
        """Lets each do what is due."""
        return b"".join(line for member in self._members if (line := member.step())) or None


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


def serve(
    source: io.FileIO,
    sink: io.FileIO,
    consumers: Sequence[SampleConsumer],
    *,
    limit_bytes: int,
    companion: Companion | None = None,
) -> None:
    """Answers frames until the source ends; a frame cut short by that has no answer."""
    frames, verdicts = FrameReader(source), _Verdicts(sink)
    sink.write(write_verdicts([]))  # ready: the tap waits longer for a process that starts

    while True:
        if companion is not None and (line := companion.step()):
            sink.write(line)
        due = verdicts.due
        wait_s = _GATHER_SECONDS if verdicts.waiting or companion is None else _LONGEST_SECONDS
        ready = frames.wait(0 if due else wait_s)
        if due or not ready:
            verdicts.flush()
        if not ready and companion is not None:
            continue
        for frame in frames.here():
            _give_way()
            if not frame.head.startswith(CONTROL_HEAD):
                verdicts.waiting.append(_verdict(frame, consumers, limit_bytes))
            elif companion is not None:
                companion.control(json.loads(frame.head), bytes(frame.request))
            if verdicts.due:
                break
        if frames.ended:
            verdicts.flush()
            return


class _Verdicts:
    """Those that wait to share a line."""

    def __init__(self, sink: io.FileIO) -> None:
        self._sink = sink
        self._flushed_s = time.monotonic()
        self.waiting: list[Verdict] = []

    @property
    def due(self) -> bool:
        return len(self.waiting) >= MAX_VERDICTS or time.monotonic() - self._flushed_s > _LONGEST_SECONDS

    def flush(self) -> None:
        if self.waiting:
            self._sink.write(write_verdicts(self.waiting))
            self.waiting.clear()
        self._flushed_s = time.monotonic()


def _verdict(frame: Frame, consumers: Sequence[SampleConsumer], limit_bytes: int) -> Verdict:
    try:
        return judge(received(frame), consumers, limit_bytes=limit_bytes)
    except Exception:
        log.exception("a sample could not be analysed")
        return Verdict(SampleLoss.ANALYSIS_FAILED, {})


def main(arguments: Sequence[str]) -> None:
    """Runs until standard input ends: the tap closes it, or is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the tap still drains
    os.nice(_NICE)
    set_up_logging("INFO")
    setup = AnalysisSetup.model_validate_json(arguments[0])
    with io.FileIO(0, closefd=False) as source, io.FileIO(1, "w", closefd=False) as sink:
        consumers: list[SampleConsumer] = [NonFiniteOutputs()]
        monitor = _monitor(setup, sink)
        found = [one for one in (monitor, _live_inputs(setup, sink)) if one is not None]
        companion = Companions(found) if found else None
        _take_idle_cores_only()
        serve(source, sink, [*consumers, *found], limit_bytes=setup.limit_bytes, companion=companion)


def _take_idle_cores_only() -> None:
    """Traffic that wakes gets its core at once; from a process that is only niced, at the end of its time slice."""
    try:
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    except (AttributeError, OSError) as error:  # not on Linux, or forbidden by a filter of system calls
        log.info("analysis stays niced: %s", error)


def _give_way() -> None:
    """Has the kernel look for somebody who wants this core."""
    os.sched_yield()


def _monitor(setup: AnalysisSetup, sink: io.FileIO) -> "Monitor | None":
    if setup.bundle_dir is None:
        return None
    # Imported here: scipy takes 30 MB and a second, which a tap without a bundle can do without.
    from latentry_serving.tap.monitor import open_monitor

    offset_s = time.time() - time.monotonic()  # noqa: TID251 - this is where it becomes an argument
    opened = open_monitor(setup, lambda: time.monotonic() + offset_s, _give_way)
    if isinstance(opened, bytes):
        sink.write(opened)
        return None
    return opened


def _live_inputs(setup: AnalysisSetup, sink: io.FileIO) -> "LiveInputs | None":
    """What keeps recent inputs, where that is asked for."""
    if setup.bundle_dir is None or not setup.recent_inputs:
        return None
    from latentry_serving.tap.compare_recent import open_live_inputs

    return open_live_inputs(setup, sink)


if __name__ == "__main__":
    main(sys.argv[1:])
