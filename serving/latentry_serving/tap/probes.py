"""Golden probes: the bundle's recorded calls, sent to the tap's own Triton and compared with what was recorded.

They go to Triton directly, not through the tap's listeners, so they are never counted as traffic of users, and carry
``latentry-probe: golden`` and a request id that says so. A few of the recorded rows are sent, each twice in a row.
"""

import json
import logging
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from latentry_serving.bundle.recorded import REPLAYED_ROWS, Array, load_golden
from latentry_serving.contract.manifest import OperationContract, TensorSpec, Tolerance
from latentry_serving.contract.metrics import PostponedReason, ProbeOutcome, Protocol
from latentry_serving.contract.operations import Operation
from latentry_serving.contract.tap_config import Address, ProbeSettings
from latentry_serving.oip import CapturedPayload, DecodeFailure, Direction, decode
from latentry_serving.tap.bundle_source import BundleSource, Stopped
from latentry_serving.tap.golden import Verdict, judge
from latentry_serving.tap.triton_http import Buffer, TritonHttp, TritonRefused, TritonUnreachable, error_text

log = logging.getLogger(__name__)

_MARK = "latentry-probe"
_HEADER_LENGTH = "Inference-Header-Content-Length"
_LOOK_SECONDS = 0.02


@dataclass(frozen=True, slots=True)
class ProbeRecord:
    """What is known of one operation's probes. ``verdict`` and times are the last one's, None before it."""

    verdict: Verdict | None = None
    ended_unix_s: float | None = None
    duration_s: float | None = None
    outcomes: Counter[ProbeOutcome] = field(default_factory=Counter)

    @property
    def passed(self) -> bool:
        return self.verdict is not None and self.verdict.outcome is ProbeOutcome.PASSED


class Prober:
    """Probes every operation of a bundle. ``round`` runs in a thread of its own; the rest may be read anywhere."""

    def __init__(
        self,
        source: BundleSource,
        settings: ProbeSettings,
        triton: Address,
        *,
        in_flight: Callable[[], int],
        clock: Callable[[], float],
        unix_offset_s: float,
        stop: threading.Event,
    ) -> None:
        """
        Args:
            in_flight: requests of users that are under way now.
            clock: monotonic seconds.
            unix_offset_s: Unix time minus the clock.
        """
        self._source = source
        self._settings = settings
        self._triton = triton
        self._in_flight = in_flight
        self._clock = clock
        self._unix_offset_s = unix_offset_s
        self._stop = stop
        self._call: TritonHttp | None = None
        self.records = {operation: ProbeRecord() for operation in source.manifest.contract.operations}
        self.postponed: Counter[PostponedReason] = Counter()
        self.accepted = False
        """Whether every operation has passed in one round. Stays so: a later failure shows in the figures while the
        traffic goes on, for replicas are alike, and if all of them stepped back nobody would answer."""

    def reasons(self) -> list[str]:
        """Why clients should not be sent here; empty once every operation has passed."""
        if self.accepted:
            return []
        failing = ((name, record) for name, record in self.records.items() if not record.passed)
        return [f"golden probe of {name}: {_state(record)}" for name, record in failing]

    def abort(self) -> None:
        """Gives up the call to Triton that is under way."""
        if (call := self._call) is not None:
            call.abort()

    def round(self) -> bool:
        """Probes every operation once, giving way to users; whether all passed.

        Raises:
            Stopped: the tap stops.
        """
        until_s = self._clock() + self._settings.postpone_seconds
        for operation, contract in self._source.manifest.contract.operations.items():
            self._give_way(until_s)
            with TritonHttp(self._triton, silence_seconds=self._settings.timeout_seconds) as triton:
                self._call = triton
                self._record(operation, contract, triton)
        passed = all(record.passed for record in self.records.values())
        self.accepted = self.accepted or passed
        return passed

    def _give_way(self, until_s: float) -> None:
        """Waits for users to leave room, but not beyond a time of the clock."""
        if self._in_flight() <= self._settings.in_flight_limit:
            return
        while self._clock() < until_s:
            if self._stop.wait(_LOOK_SECONDS):
                raise Stopped
            if self._in_flight() <= self._settings.in_flight_limit:
                self.postponed[PostponedReason.TRAFFIC] += 1
                return
        self.postponed[PostponedReason.NO_ROOM] += 1

    def _record(self, operation: Operation, contract: OperationContract, triton: TritonHttp) -> None:
        before, started_s = self.records[operation], self._clock()
        try:
            verdict = self._probe(operation, contract, triton)
        except TritonUnreachable as error:
            verdict = Verdict(ProbeOutcome.UNREACHABLE, str(error))
        except TritonRefused as error:
            verdict = Verdict(ProbeOutcome.ERROR_ANSWER, str(error))
        if self._stop.is_set():
            raise Stopped
        ended_s = self._clock()
        self.records[operation] = replace(
            before,
            verdict=verdict,
            ended_unix_s=ended_s + self._unix_offset_s,
            duration_s=ended_s - started_s,
            outcomes=before.outcomes + Counter([verdict.outcome]),
        )
        if verdict.outcome is not ProbeOutcome.PASSED:
            facts = {"operation": operation, "outcome": verdict.outcome, "reason": verdict.detail}
            log.warning("golden probe failed", extra=facts)

    def _probe(self, operation: Operation, contract: OperationContract, triton: TritonHttp) -> Verdict:
        golden, folder = self._source.manifest.golden, self._source.directory
        if (tolerance := golden.tolerances.get(operation)) is None:
            return Verdict(ProbeOutcome.UNREADABLE, "no tolerance is recorded")
        try:
            inputs = load_golden(folder, operation, "inputs", contract.inputs, most=REPLAYED_ROWS)
            outputs = load_golden(folder, operation, "outputs", contract.outputs, most=REPLAYED_ROWS)
        except (OSError, ValueError) as error:
            return Verdict(ProbeOutcome.UNREADABLE, f"the recorded call cannot be read: {error}")
        sent = min(golden.samples, REPLAYED_ROWS)
        most_rows = int(triton.model_config(contract.model).get("max_batch_size", 0)) or sent
        verdicts = [
            self._compare(triton, contract, _rows(inputs, rows), _rows(outputs, rows), tolerance)
            for rows in _slices(sent, most_rows)
        ]
        merged = verdicts[0]
        for verdict in verdicts[1:]:
            merged = merged.merged(verdict)
        return merged

    def _compare(
        self,
        triton: TritonHttp,
        contract: OperationContract,
        inputs: Mapping[str, Array],
        recorded: Mapping[str, Array],
        tolerance: Tolerance,
    ) -> Verdict:
        first, second = (infer(triton, contract, inputs) for _ in range(2))
        return judge(recorded, first, second, tolerance)


def infer(
    triton: TritonHttp, contract: OperationContract, inputs: Mapping[str, Array], *, mark: str = "golden"
) -> dict[str, Array]:
    """One call with binary tensors both ways; output name -> array.

    Args:
        mark: value of the header ``latentry-probe``, and part of the request's id.

    Raises:
        TritonUnreachable: no answer.
        TritonRefused: an error, or an answer that cannot be read.
    """
    header, data = _request(contract, inputs, mark)
    answer = triton.call(
        "POST",
        f"/v2/models/{contract.model}/infer",
        [header, *data],
        {_MARK: mark, _HEADER_LENGTH: str(len(header)), "Content-Type": "application/octet-stream"},
    )
    if answer.status != 200:
        raise TritonRefused(f"HTTP {answer.status}: {error_text(answer.body)}")
    (message,) = decode(
        CapturedPayload(
            Protocol.HTTP,
            Direction.RESPONSE,
            [answer.body],
            content_type=answer.headers.get("content-type"),
            header_length=answer.headers.get(_HEADER_LENGTH.lower()),
        ),
        limit_bytes=len(answer.body),
    )
    if isinstance(message, DecodeFailure):
        raise TritonRefused(f"the answer cannot be read ({message.reason}): {message.detail}")
    return {tensor.name: tensor.array for tensor in message.tensors}


def _request(contract: OperationContract, inputs: Mapping[str, Array], mark: str) -> tuple[bytes, Sequence[Buffer]]:
    arrays = [np.ascontiguousarray(inputs[tensor.name]) for tensor in contract.inputs]
    header = {
        "id": f"latentry-{mark}-{contract.model}",
        "inputs": [_described(tensor, array) for tensor, array in zip(contract.inputs, arrays, strict=True)],
        "outputs": [{"name": tensor.name, "parameters": {"binary_data": True}} for tensor in contract.outputs],
    }
    return json.dumps(header).encode(), [array.data.cast("B") for array in arrays]


def _described(tensor: TensorSpec, array: Array) -> dict[str, object]:
    return {
        "name": tensor.name,
        "datatype": tensor.datatype,
        "shape": list(array.shape),
        "parameters": {"binary_data_size": array.nbytes},
    }


def _slices(rows: int, most: int) -> Iterator[slice]:
    """Rows in batches that Triton takes."""
    return (slice(start, start + most) for start in range(0, rows, most))


def _rows(arrays: Mapping[str, Array], rows: slice) -> dict[str, Array]:
    return {name: array[rows] for name, array in arrays.items()}


def _state(record: ProbeRecord) -> str:
    return "it has not run yet" if record.verdict is None else record.verdict.detail
