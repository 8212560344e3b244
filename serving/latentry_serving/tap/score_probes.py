"""The tap's own score calls: a few of the sampled inputs go to Triton's score, so that reconstruction errors are known
when clients only encode.

They go to Triton directly, marked ``latentry-probe: score``, and are never counted as traffic. When one may be sent is
the tap's to say, for it knows how busy users keep Triton.
"""

import logging
import queue
import threading

import numpy as np

from latentry_serving.bundle.recorded import Array
from latentry_serving.contract.manifest import Contract, Datatype
from latentry_serving.contract.operations import RECONSTRUCTION_ERROR, Operation
from latentry_serving.contract.tap_config import Address, ScoreProbeSettings
from latentry_serving.tap.analysis_decode import Sample
from latentry_serving.tap.monitor_rows import Rows
from latentry_serving.tap.probes import infer
from latentry_serving.tap.triton_http import TritonHttp, TritonRefused, TritonUnreachable

log = logging.getLogger(__name__)

_MOST_WAITING = 128
_SEED = 0


class InputReservoir:
    """A uniform choice of the inputs seen since the last look, at most ``size`` of them. Copies what it keeps."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._rng = np.random.Generator(np.random.PCG64(_SEED))
        self._kept: list[dict[str, Array]] = []
        self._seen = 0

    def add(self, inputs: dict[str, Array]) -> None:
        """Arrays [n, ...] by input name, the same n each."""
        for row in range(len(next(iter(inputs.values())))):
            self._seen += 1
            place = len(self._kept) if len(self._kept) < self._size else int(self._rng.integers(self._seen))
            if place < self._size:
                kept = {name: array[row : row + 1].copy() for name, array in inputs.items()}
                self._kept[place : place + 1] = [kept]

    def take(self) -> list[dict[str, Array]]:
        """What was kept; begins anew."""
        kept, self._kept, self._seen = self._kept, [], 0
        return kept


class ScoreProbes:
    """Asks Triton in a thread of its own; never makes the caller wait."""

    def __init__(self, contract: Contract, triton: Address, settings: ScoreProbeSettings) -> None:
        score = contract.operations.get(Operation.SCORE)
        errors = tuple(t for t in score.outputs if t.name == RECONSTRUCTION_ERROR) if score else ()
        texts = any(t.datatype is Datatype.BYTES for t in score.inputs) if score else False
        self.wanted = bool(errors) and not texts and settings.per_second > 0
        """Whether there is anything to ask, and a budget for it."""
        self._score = score.model_copy(update={"outputs": errors}) if score else None
        self._triton = triton
        self._settings = settings
        self._names = {tensor.name for tensor in score.inputs} if score else set()
        self._inputs = InputReservoir(max(1, min(_MOST_WAITING, round(settings.per_second))))
        self._waiting: queue.Queue[dict[str, Array]] = queue.Queue(_MOST_WAITING)
        self._answers: queue.SimpleQueue[Rows | str] = queue.SimpleQueue()
        self._scored_by_users = 0
        self.answered = 0
        self.failed = 0
        self.last_failure = ""
        if self.wanted:
            threading.Thread(target=self._run, name="score probes", daemon=True).start()

    def saw(self, sample: Sample) -> None:
        """Remembers inputs that could be scored; a user's score call saves one of the tap's."""
        if not self.wanted:
            return
        if sample.operation == Operation.SCORE:
            self._scored_by_users += sum(len(t.array) for t in sample.response if t.name == RECONSTRUCTION_ERROR)
            return
        inputs = {tensor.name: tensor.array for tensor in sample.request if tensor.name in self._names}
        if sample.operation in (Operation.ENCODE, Operation.RECONSTRUCT) and inputs.keys() == self._names:
            self._inputs.add(inputs)

    def allow(self, rows: int) -> None:
        """The tap lets so many inputs be scored now; those that users had scored since count."""
        chosen = self._inputs.take()[: max(0, rows - self._scored_by_users)]
        self._scored_by_users = 0
        for inputs in chosen:
            if self._waiting.full():  # Triton is behind: these are lost, others will come
                return
            self._waiting.put_nowait(inputs)

    def answers(self) -> list[Rows]:
        """Reconstruction errors [1, 1] that came back since the last look."""
        found = []
        while not self._answers.empty():
            answer = self._answers.get_nowait()
            if isinstance(answer, str):
                self.failed += 1
                if answer != self.last_failure:
                    log.warning("score probe failed", extra={"reason": answer})
                self.last_failure = answer
            else:
                self.answered += 1
                found.append(answer)
        return found

    def _run(self) -> None:
        while True:
            inputs = self._waiting.get()
            try:
                with TritonHttp(self._triton, silence_seconds=self._settings.timeout_seconds) as triton:
                    self._ask(triton, inputs)
                    while not self._waiting.empty():
                        self._ask(triton, self._waiting.get_nowait())
            except (TritonUnreachable, TritonRefused, ValueError) as error:
                self._answers.put(str(error))

    def _ask(self, triton: TritonHttp, inputs: dict[str, Array]) -> None:
        assert self._score is not None  # noqa: S101 - wanted
        answer = infer(triton, self._score, inputs, mark="score")
        if RECONSTRUCTION_ERROR not in answer:
            raise TritonRefused(f"the answer of {self._score.model} has no {RECONSTRUCTION_ERROR}")
        self._answers.put(np.asarray(answer[RECONSTRUCTION_ERROR], np.float32).reshape(1, 1))
