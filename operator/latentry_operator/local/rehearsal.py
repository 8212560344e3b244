"""Before a candidate gets any client: the same calls to it and to the stable revision, by turns, and their errors and
times compared by the slo gate's own test.

One machine switches all the traffic at once. What is ten times slower, or fails or dies under calls, is to be found
before. The calls are the bundle's golden inputs, sent to both Tritons directly: they count as nobody's traffic. It
rejects what is surely worse, and says nothing for a candidate: that is for the watching after the switch.
"""

import asyncio
import logging
import math
import threading
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from latentry_operator.api.status import Verdict
from latentry_operator.local.revision import LocalRevision
from latentry_operator.local.wanted import Wanted
from latentry_operator.plan.rollout.facts import Evidence, Histogram, Running, Traffic
from latentry_operator.plan.rollout.gates.result import GateInput
from latentry_operator.plan.rollout.gates.slo import objectives
from latentry_operator.plan.rollout.state import Phase, RolloutState
from latentry_serving.contract.manifest import OperationContract
from latentry_serving.contract.tap_config import Address
from latentry_serving.tap.triton_http import TritonHttp, TritonRefused, TritonUnreachable

CALLS = 200
"""To each of the two: a share of bad calls of 5 % or more is surely seen."""
WARM_UP_CALLS = 20
"""Before, which do not count: first calls of a graph are slow."""
MOST_SECONDS = 20.0
_JUDGED_EVERY = 25
_SILENCE_SECONDS = 10.0
_BINS_PER_OCTAVE = 8

_log = logging.getLogger(__name__)

Call = tuple[OperationContract, Mapping[str, Any]]


@dataclass(slots=True)
class _Side:
    """What one revision answered."""

    seconds: list[float] = field(default_factory=list)
    errors: int = 0

    def traffic(self) -> Traffic:
        return Traffic(len(self.seconds) + self.errors, self.errors, histogram(self.seconds))


class Rehearsal:
    """Plays until it is over or closed. ``problem`` says why the candidate must not serve; empty while nothing does."""

    def __init__(self, stable: tuple[Wanted, Address], candidate: tuple[Wanted, Address]) -> None:
        """
        Args:
            stable, candidate: what runs, and its Triton's HTTP address.
        """
        self._stable, self._candidate = stable, candidate
        self._stop = threading.Event()
        self._calls = 0
        self.problem = ""
        self._connections: list[TritonHttp] = []
        self._task = asyncio.create_task(asyncio.to_thread(self._play))

    @property
    def over(self) -> bool:
        return self._task.done()

    @property
    def progress(self) -> str:
        return f"rehearsed on golden inputs beside the stable revision, {self._calls} of {CALLS} calls"

    async def close(self) -> None:
        """Gives up, also the call that is under way."""
        self._stop.set()
        for connection in self._connections:
            connection.abort()
        await asyncio.wait({self._task})
        if error := self._task.exception():
            _log.error("a rehearsal broke", exc_info=error)

    def _play(self) -> None:
        (old, stable_at), (new, candidate_at) = self._stable, self._candidate
        calls = _calls(old, new)
        if not calls:
            return
        sides = stable, candidate = _Side(), _Side()
        until = time.monotonic() + MOST_SECONDS
        with (
            TritonHttp(stable_at, silence_seconds=_SILENCE_SECONDS) as one,
            TritonHttp(candidate_at, silence_seconds=_SILENCE_SECONDS) as other,
        ):
            self._connections += [one, other]
            for number in range(-WARM_UP_CALLS, CALLS):
                if self._stop.is_set() or time.monotonic() > until:
                    return
                call = calls[number % len(calls)]
                for triton, side in zip((one, other), sides, strict=True):
                    _send(triton, call, side if number >= 0 else _Side())
                self._calls = max(0, number + 1)
                if self._calls % _JUDGED_EVERY == 0 and self._calls:
                    self.problem = self._judge(stable, candidate)
                if self.problem:
                    return

    def _judge(self, stable: _Side, candidate: _Side) -> str:
        evidence = Evidence(traffic=candidate.traffic(), stable_traffic=stable.traffic())
        result = objectives(GateInput(evidence, self._candidate[0].policy, Running(1, 1), stable=True))
        if result is None or result.verdict is not Verdict.FAIL:
            return ""
        return f"in a rehearsal on golden inputs, before any client: {result.message}"


class Rehearsals:
    """Has each candidate rehearsed once, after it answered and before it gets clients."""

    def __init__(self) -> None:
        self._of: LocalRevision | None = None
        self._rehearsal: Rehearsal | None = None

    async def look(
        self, state: RolloutState, stable: LocalRevision | None, candidate: LocalRevision | None
    ) -> Running | None:
        """The candidate as the policy is to see it: refused for what was found, not ready while it is rehearsed; None
        where a rehearsal changes nothing."""
        if candidate is not self._of:
            await self.close()
        if candidate is None or stable is None or state.phase is not Phase.GATING:
            return None
        if self._rehearsal is None and candidate.triton and stable.triton and candidate.wanted.policy.gates.slo:
            self._of = candidate
            self._rehearsal = Rehearsal((stable.wanted, stable.triton), (candidate.wanted, candidate.triton))
        if self._rehearsal is None:
            return None
        if self._rehearsal.problem:
            return replace(candidate.running(), refused=self._rehearsal.problem)
        if not self._rehearsal.over:
            return replace(candidate.running(), ready=0, problem=self._rehearsal.progress)
        return None

    async def close(self) -> None:
        """Gives up what is under way."""
        rehearsal, self._rehearsal, self._of = self._rehearsal, None, None
        if rehearsal is not None:
            await rehearsal.close()


def _send(triton: TritonHttp, call: Call, side: _Side) -> None:
    from latentry_serving.tap.probes import infer  # with numpy and the decoder: only who deploys needs them

    contract, inputs = call
    begun = time.monotonic()
    try:
        infer(triton, contract, inputs, mark="rehearsal")
    except (TritonRefused, TritonUnreachable):
        side.errors += 1
    else:
        side.seconds.append(time.monotonic() - begun)


def _calls(stable: Wanted, candidate: Wanted) -> list[Call]:
    """One row after the other of every operation that both have, operations by turns."""
    from latentry_serving.bundle.recorded import load_golden

    theirs, folder = candidate.manifest.contract.operations, stable.bundle_dir
    rows: list[list[Call]] = []
    for operation, contract in stable.manifest.contract.operations.items():
        if operation in theirs and theirs[operation].model == contract.model:
            inputs = _golden(load_golden, folder, operation, contract)
            count = min((len(array) for array in inputs.values()), default=0)
            rows.append([(contract, {name: array[i : i + 1] for name, array in inputs.items()}) for i in range(count)])
    longest = max(map(len, rows), default=0)
    return [one[i] for i in range(longest) for one in rows if i < len(one)]


def _golden(load: Any, folder: Path, operation: Any, contract: OperationContract) -> Mapping[str, Any]:
    try:
        found: Mapping[str, Any] = load(folder, operation, "inputs", contract.inputs)
    except (OSError, ValueError):  # the golden gate says what is wrong with the bundle
        return {}
    return found


def histogram(seconds: list[float]) -> Histogram:
    """Durations on a grid of eight bins to the octave, as taps count them."""
    bins = Counter(math.floor(_BINS_PER_OCTAVE * math.log2(max(one, 1e-9))) for one in seconds)
    if not bins:
        return Histogram()
    grid = range(min(bins), max(bins) + 2)
    return Histogram(tuple(2.0 ** (k / _BINS_PER_OCTAVE) for k in grid), tuple(bins[k] for k in grid[:-1]))
