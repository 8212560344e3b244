"""The candidate's comparison with the stable revision: one at a time, in a thread beside the traffic.

Inputs are embedded, and scored where both versions can: that tells a worse model also where the embedding space is new.
"""

import logging
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

import numpy as np

from latentry_serving.bundle.recorded import Array
from latentry_serving.child import bound_to_parent
from latentry_serving.compare.reconstruction import NEGLIGIBLE, unavoidable, uninformed
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
from latentry_serving.tap.compare_calls import CallFailed, CompareCalls
from latentry_serving.tap.compare_sample import Rows, different, error_output, finite, misfit, unpacked
from latentry_serving.tap.compare_task import INCOMPARABLE, Finished, Scored, Task
from latentry_serving.tap.triton_http import TritonRefused, TritonUnreachable

log = logging.getLogger(__name__)

MOST_SECONDS = 300.0
"""Of one comparison's calls of one operation."""
MOST_SCORING_SECONDS = 15.0
"""Of the stable revision's own scores of live inputs: whoever carries them waits meanwhile."""
_MOST_NUMERICS_SECONDS = 120.0
_JOIN_SECONDS = 5.0
_LIMITS = (unavoidable, uninformed)


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
        self._clock = clock
        self._calls = CompareCalls(settings, triton, in_flight=in_flight, clock=clock)
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
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
            if self._state is ComparisonState.RUNNING or self._calls.stopped:
                raise OperationFailed("a comparison is running", remedy="wait until GET /compare says it has ended")
            if head.digest != self._stable:
                self._result, self.files = None, {}
            self._stable, self._ended_s = head.digest, None
            self._state, self._detail = ComparisonState.RUNNING, f"embedding {head.rows()} inputs"
            self._thread = threading.Thread(target=self._run, args=(head, payload, limits), name="compare", daemon=True)
            self._thread.start()

    def with_errors(self, groups: list[Rows]) -> tuple[list[Rows], str]:
        """The rows with this revision's own reconstruction errors, and why they have none; in the caller's thread."""
        contract = self._source.manifest.contract
        output = error_output(contract)
        if output is None or not groups:
            return groups, ""
        score = contract.operations[Operation.SCORE]
        try:
            found = self._calls.ask(score, output, groups, most_seconds=MOST_SCORING_SECONDS)
        except (CallFailed, Stopped, TritonUnreachable, TritonRefused) as error:
            return groups, f"live inputs come without reconstruction errors: {str(error) or 'the tap stops'}"
        return [replace(rows, errors=errors[:, 0]) for rows, errors in zip(groups, found, strict=True)], ""

    def stop(self) -> None:
        """Gives up whatever is under way."""
        self._calls.stop()
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
        except (_Incomparable, CallFailed, TritonUnreachable, TritonRefused) as error:
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
        encode = manifest.contract.operations[Operation.ENCODE]
        new = np.concatenate(self._calls.ask(encode, encode.outputs[0], groups, most_seconds=MOST_SECONDS))
        scored, errors = self._scored(head, groups) or (None, np.empty((2, 0), np.float32))
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
            scored=scored,
        )
        return self._numerics(task, (old, new, errors))

    def _scored(self, head: SampleHead, groups: list[Rows]) -> tuple[Scored, Array] | None:
        """What the errors of both are on the same inputs, and how far beyond the unavoidable: float32 [2, inputs]; None
        where they mean different things, or one of the two has none.
        """
        contract = self._source.manifest.contract
        output, kind = error_output(contract), contract.reconstruction_error
        told = [rows for rows in groups if rows.errors is not None and np.isfinite(rows.errors).any()]
        if output is None or kind is None or kind is not head.reconstruction_error or not told:
            return None
        score = contract.operations[Operation.SCORE]
        found = self._calls.ask(score, output, told, most_seconds=MOST_SECONDS)
        old = np.concatenate([rows.errors for rows in told if rows.errors is not None])
        new = np.concatenate(found)[:, 0].astype(np.float64)
        kept = np.isfinite(old) & np.isfinite(new)
        ends = np.cumsum([len(rows.embeddings) for rows in told])[:-1]
        name = score.inputs[0].name
        inputs = [rows.inputs[name][mine] for rows, mine in zip(told, np.split(kept, ends), strict=True) if mine.any()]
        lost = int((np.isfinite(old) & ~np.isfinite(new)).sum())
        old, new = old[kept], new[kept]
        floor, far = (np.concatenate([np.empty(0), *(of(kind, each) for each in inputs)]) for of in _LIMITS)
        scored = Scored(
            inputs=len(old),
            not_finite=lost,
            stable=_mean(old),
            candidate=_mean(new),
            unavoidable=_mean(floor),
            negligible=NEGLIGIBLE * _mean(far),
        )
        return scored, np.stack([old - floor, new - floor]).astype(np.float32)

    def _numerics(self, task: Task, arrays: Sequence[Array]) -> tuple[Finished, dict[str, bytes]]:
        command = bound_to_parent([sys.executable, "-m", "latentry_serving.tap.compare_worker"], os.getpid())
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=child_environment()
        ) as process:
            self._process = process
            data = b"".join((task.model_dump_json().encode(), b"\n", *(array.tobytes() for array in arrays)))
            try:
                with suppress(BrokenPipeError):
                    out, told = process.communicate(data, timeout=_MOST_NUMERICS_SECONDS)
            except subprocess.TimeoutExpired as error:
                raise _Incomparable(f"the comparison took longer than {_MOST_NUMERICS_SECONDS:g} s") from error
            finally:
                process.kill()
                self._process = None
        if self._calls.stopped:
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


def _mean(values: Array) -> float:
    """0 of none."""
    return float(values.mean()) if len(values) else 0.0


class _Incomparable(Exception):
    """A sentence about why."""
