"""Calls of a comparison: rows to the tap's own Triton, in small batches that give way to users.

Triton is asked directly, marked ``latentry-probe: compare``, so no user's figures know of it.
"""

import threading
from collections.abc import Callable, Sequence

import numpy as np

from latentry_serving.bundle.recorded import Array
from latentry_serving.contract.manifest import OperationContract, TensorSpec
from latentry_serving.contract.tap_config import Address, ProbeSettings
from latentry_serving.tap.bundle_source import Stopped
from latentry_serving.tap.compare_sample import Rows
from latentry_serving.tap.probes import infer
from latentry_serving.tap.triton_http import TritonHttp

_LOOK_SECONDS = 0.02
_MOST_ROWS_PER_CALL = 32
"""A user's call waits for at most one of these."""


class CallFailed(Exception):
    """A sentence about why."""


class CompareCalls:
    """May be used by several threads."""

    def __init__(
        self, settings: ProbeSettings, triton: Address, *, in_flight: Callable[[], int], clock: Callable[[], float]
    ) -> None:
        """
        Args:
            settings: of the golden probes; a comparison gives way to users as they do.
            in_flight: requests of users that are under way now.
            clock: monotonic seconds.
        """
        self._settings = settings
        self._triton = triton
        self._in_flight = in_flight
        self._clock = clock
        self._stop = threading.Event()
        self._calls: set[TritonHttp] = set()

    def stop(self) -> None:
        """Gives up whatever is under way."""
        self._stop.set()
        for call in list(self._calls):
            call.abort()

    @property
    def stopped(self) -> bool:
        return self._stop.is_set()

    def ask(
        self, operation: OperationContract, output: TensorSpec, groups: Sequence[Rows], *, most_seconds: float
    ) -> list[Array]:
        """What Triton makes of the rows: of each group float32 [rows, size], in their order.

        Raises:
            CallFailed: answers of another form, or no end in that time.
            TritonUnreachable, TritonRefused: no answer, or an error.
            Stopped: the tap stops.
        """
        wanted = operation.model_copy(update={"outputs": (output,)})
        until_s = self._clock() + most_seconds
        patience_s = self._clock() + self._settings.postpone_seconds
        with TritonHttp(self._triton, silence_seconds=self._settings.timeout_seconds) as triton:
            self._calls.add(triton)
            try:
                most = int(triton.model_config(operation.model).get("max_batch_size", 0)) or _MOST_ROWS_PER_CALL
                size = min(most, _MOST_ROWS_PER_CALL)
                found = []
                for rows in groups:
                    batches = []
                    for start in range(0, len(rows.embeddings), size):
                        self._give_way(patience_s)
                        if self._clock() > until_s:
                            raise CallFailed(f"{operation.model} took longer than {most_seconds:g} s for the inputs")
                        inputs = {key: array[start : start + size] for key, array in rows.inputs.items()}
                        batches.append(_answer(triton, wanted, inputs))
                    found.append(batches)
            finally:
                self._calls.discard(triton)
        if len({batch.shape[1] for batches in found for batch in batches}) > 1:
            raise CallFailed(f"{output.name} of {operation.model} has several lengths")
        return [np.concatenate(batches) for batches in found]

    def _give_way(self, patience_s: float) -> None:
        """Waits for users to leave room, but not beyond a time of the clock."""
        while self._in_flight() > self._settings.in_flight_limit and self._clock() < patience_s:
            if self._stop.wait(_LOOK_SECONDS):
                raise Stopped
        if self._stop.is_set():
            raise Stopped


def _answer(triton: TritonHttp, wanted: OperationContract, inputs: dict[str, Array]) -> Array:
    name, rows = wanted.outputs[0].name, len(next(iter(inputs.values())))
    answer = infer(triton, wanted, inputs, mark="compare").get(name)
    if answer is None or answer.ndim != 2 or len(answer) != rows:
        raise CallFailed(f"the answer of {wanted.model} has no {name} [{rows}, size]")
    return answer.astype(np.float32)
