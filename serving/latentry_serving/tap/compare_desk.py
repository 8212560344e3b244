"""The candidate's comparison with the stable revision: one at a time, in a thread beside the traffic.

Its Triton is asked directly, marked ``latentry-probe: compare``, so no user's figures know of it; between two batches
it gives way to users.
"""

import logging
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

import numpy as np

from latentry_serving.bundle.recorded import Array
from latentry_serving.child import bound_to_parent
from latentry_serving.contract.comparison import (
    ComparisonReport,
    ComparisonResult,
    ComparisonState,
    InputSource,
    SampleHead,
    split_sample,
)
from latentry_serving.contract.errors import OperationFailed
from latentry_serving.contract.operations import Operation
from latentry_serving.contract.tap_config import Address, ProbeSettings
from latentry_serving.tap.analysis import child_environment
from latentry_serving.tap.bundle_source import BundleSource, Stopped
from latentry_serving.tap.compare_sample import Rows, different, finite, misfit, unpacked
from latentry_serving.tap.compare_task import INCOMPARABLE, Finished, Task
from latentry_serving.tap.probes import infer
from latentry_serving.tap.triton_http import TritonHttp, TritonRefused, TritonUnreachable

log = logging.getLogger(__name__)

MOST_SECONDS = 300.0
"""Of one comparison."""
_MOST_NUMERICS_SECONDS = 120.0
_LOOK_SECONDS = 0.02
_JOIN_SECONDS = 5.0
_MOST_ROWS_PER_CALL = 32
"""A user's call waits for at most one of these."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Thresholds of one space, as in the gate."""

    cosine: float = 0.98
    overlap: float = 0.9
    recall: float = 0.95
    norm_ratio: float = 1.25


class CompareDesk:
    """``start``, ``stop`` and reads may come from any thread."""

    def __init__(
        self,
        source: BundleSource,
        settings: ProbeSettings,
        triton: Address,
        *,
        in_flight: Callable[[], int],
        clock: Callable[[], float],
    ) -> None:
        """
        Args:
            settings: of the golden probes; a comparison gives way to users as they do.
            in_flight: requests of users that are under way now.
            clock: monotonic seconds.
        """
        self._source = source
        self._settings = settings
        self._triton = triton
        self._in_flight = in_flight
        self._clock = clock
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._call: TritonHttp | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._state, self._detail = ComparisonState.IDLE, "nothing was compared yet"
        self._stable: str | None = None
        self._result: ComparisonResult | None = None
        self._ended_s: float | None = None
        self.files: dict[str, bytes] = {}
        """``map.npy`` and ``map.json`` of the result; empty where no map was fitted."""

    def report(self) -> ComparisonReport:
        """How it stands."""
        ended = self._ended_s
        return ComparisonReport(
            state=self._state,
            detail=self._detail,
            stable_digest=self._stable,
            seconds_ago=None if ended is None else max(0.0, self._clock() - ended),
            result=self._result,
        )

    def start(self, data: bytes, limits: Limits) -> None:
        """Begins to compare with a sample of the stable revision.

        Raises:
            InvalidInput: it is none.
            OperationFailed: a comparison is running already, or the tap stops.
        """
        head, payload = split_sample(data)
        with self._lock:
            if self._state is ComparisonState.RUNNING or self._stop.is_set():
                raise OperationFailed("a comparison is running", remedy="wait until GET /compare says it has ended")
            if head.digest != self._stable:
                self._result, self.files = None, {}
            self._stable, self._ended_s = head.digest, None
            self._state, self._detail = ComparisonState.RUNNING, f"embedding {head.rows()} inputs"
            self._thread = threading.Thread(target=self._run, args=(head, payload, limits), name="compare", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Gives up whatever is under way."""
        self._stop.set()
        if (call := self._call) is not None:
            call.abort()
        if (process := self._process) is not None:
            process.kill()
        thread = self._thread
        if thread is not None:
            thread.join(_JOIN_SECONDS)

    def _run(self, head: SampleHead, payload: memoryview, limits: Limits) -> None:
        state, detail = ComparisonState.FAILED, ""
        try:
            finished, files = self._compared(head, payload, limits)
            self._result, self.files = finished.result, files
            state, detail = ComparisonState.DONE, _told(finished.result)
        except Stopped:
            detail = "the tap stops"
        except (_Incomparable, TritonUnreachable, TritonRefused) as error:
            detail = str(error)
        except Exception as error:
            log.exception("comparison failed")
            detail = f"the comparison failed: {error!r}; see the tap's log"
        log.info("compared", extra={"state": state, "detail": detail})
        with self._lock:
            self._state, self._detail, self._ended_s = state, detail, self._clock()

    def _compared(self, head: SampleHead, payload: memoryview, limits: Limits) -> tuple[Finished, dict[str, bytes]]:
        manifest = self._source.manifest
        if problem := misfit(head, manifest.contract.operations[Operation.ENCODE]):
            raise _Incomparable(f"inputs differ: {problem}")
        groups = different(unpacked(head, payload))
        if not groups:
            raise _Incomparable("the sample holds no inputs")
        new = self._embedded(groups)
        old = np.concatenate([rows.embeddings for rows in groups])
        is_golden = np.concatenate([[rows.source is InputSource.GOLDEN] * len(rows.embeddings) for rows in groups])
        # Where stable's are not finite either, nobody can tell which of the two is wrong.
        old_finite, new_finite = finite(old), finite(new)
        kept = old_finite & new_finite
        old, new, golden, rows = old[kept], new[kept], int(is_golden[kept].sum()), int(kept.sum())
        task = Task(
            rows=rows,
            old_dimensions=old.shape[1],
            new_dimensions=new.shape[1],
            golden=golden,
            live=rows - golden,
            not_finite=int((old_finite & ~new_finite).sum()),
            old=f"{head.version} ({head.digest})",
            new=f"{manifest.version} ({self._source.digest})",
            cosine=limits.cosine,
            overlap=limits.overlap,
            recall=limits.recall,
            norm_ratio=limits.norm_ratio,
        )
        return self._numerics(task, old, new)

    def _embedded(self, groups: list[Rows]) -> Array:
        """What this revision's Triton makes of the inputs, float32 [rows, dimensions]."""
        encode = self._source.manifest.contract.operations[Operation.ENCODE]
        wanted = encode.model_copy(update={"outputs": encode.outputs[:1]})
        name, found = encode.outputs[0].name, []
        until_s = self._clock() + MOST_SECONDS
        patience_s = self._clock() + self._settings.postpone_seconds
        with TritonHttp(self._triton, silence_seconds=self._settings.timeout_seconds) as triton:
            self._call = triton
            most = int(triton.model_config(encode.model).get("max_batch_size", 0)) or _MOST_ROWS_PER_CALL
            size = min(most, _MOST_ROWS_PER_CALL)
            for rows in groups:
                for start in range(0, len(rows.embeddings), size):
                    self._give_way(patience_s)
                    if self._clock() > until_s:
                        raise _Incomparable(f"embedding the inputs took longer than {MOST_SECONDS:g} s")
                    inputs = {key: array[start : start + size] for key, array in rows.inputs.items()}
                    answer = infer(triton, wanted, inputs, mark="compare").get(name)
                    expected = len(next(iter(inputs.values())))
                    if answer is None or answer.ndim != 2 or len(answer) != expected:
                        raise _Incomparable(f"the answer of {encode.model} has no {name} [{expected}, dimensions]")
                    found.append(answer.astype(np.float32))
        if len({answer.shape[1] for answer in found}) > 1:
            raise _Incomparable("this revision's embeddings have several lengths")
        return np.concatenate(found)

    def _give_way(self, patience_s: float) -> None:
        """Waits for users to leave room, but not beyond a time of the clock."""
        while self._in_flight() > self._settings.in_flight_limit and self._clock() < patience_s:
            if self._stop.wait(_LOOK_SECONDS):
                raise Stopped
        if self._stop.is_set():
            raise Stopped

    def _numerics(self, task: Task, old: Array, new: Array) -> tuple[Finished, dict[str, bytes]]:
        command = bound_to_parent([sys.executable, "-m", "latentry_serving.tap.compare_worker"], os.getpid())
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=child_environment()
        ) as process:
            self._process = process
            data = b"".join((task.model_dump_json().encode(), b"\n", old.tobytes(), new.tobytes()))
            try:
                with suppress(BrokenPipeError):
                    out, told = process.communicate(data, timeout=_MOST_NUMERICS_SECONDS)
            except subprocess.TimeoutExpired as error:
                raise _Incomparable(f"the comparison took longer than {_MOST_NUMERICS_SECONDS:g} s") from error
            finally:
                process.kill()
                self._process = None
        if self._stop.is_set():
            raise Stopped
        if process.returncode == INCOMPARABLE:
            raise _Incomparable(f"the embeddings cannot be compared: {told.decode(errors='replace')}")
        if process.returncode:
            raise _Incomparable(f"the comparing process ended with {process.returncode}: {told[-500:]!r}")
        line, _, rest = out.partition(b"\n")
        finished, files = Finished.model_validate_json(line), {}
        for file, size in finished.files.items():
            files[file], rest = rest[:size], rest[size:]
        return finished, files


def _told(result: ComparisonResult) -> str:
    told = f"{result.pairs} inputs were compared"
    if not result.not_finite:
        return told
    inputs = result.pairs + result.not_finite
    return f"{told}; {result.not_finite} of {inputs} embeddings of this revision hold NaN or infinity"


class _Incomparable(Exception):
    """A sentence about why."""
