"""The rollout as people and programs see it: one view from the policy's decision, with what happened lately."""

from collections import deque
from collections.abc import Callable, Iterable

from latentry_operator.local.snapshot import HappeningView, RevisionView, RolloutView, VerdictView
from latentry_operator.plan.rollout.machine import Decision, Happening

KEPT = 50
"""Happenings that are shown; older ones are forgotten."""
EDIT_REFUSED = "EditRefused"
EDIT_TAKEN = "EditTaken"
SWITCH_FAILED = "SwitchFailed"
"""Happenings beside those of the policy, see plan/rollout/reasons.py."""


class Story:
    """What happened to one model.

    Args:
        name_of: the view of a revision by its name.
        clock: Unix time.
    """

    def __init__(self, name_of: Callable[[str], RevisionView | None], clock: Callable[[], float]) -> None:
        self._name_of = name_of
        self._clock = clock
        self._happenings: deque[HappeningView] = deque(maxlen=KEPT)
        self.last = 0
        """How many happenings there were."""

    def tell(self, kind: str, reason: str, message: str) -> None:
        """Something happened now."""
        self._happenings.append(HappeningView(round(self._clock(), 3), kind, reason, message))
        self.last += 1

    def since(self, number: int) -> list[str]:
        """What was told after so many happenings, one sentence each."""
        new = self.last - number
        return [happening.message for happening in list(self._happenings)[-new:]] if new else []

    def tell_all(self, happenings: Iterable[Happening]) -> None:
        """What a decision tells."""
        for happening in happenings:
            self.tell(happening.kind, happening.reason, happening.message)

    def view(self, decision: Decision, *, serving: str, edit: str, notes: tuple[str, ...]) -> RolloutView:
        """How it stands after a decision.

        Args:
            serving: the revision with the traffic.
            edit: why the last edit was refused.
            notes: what is carried out otherwise.
        """
        state, summary = decision.state, decision.summary
        rejected = state.rejection.revision if state.rejection is not None else ""
        given_up = self._name_of(rejected)
        return RolloutView(
            phase=state.phase,
            reason=summary.reason,
            message=summary.message,
            serving=serving,
            stable=self._name_of(state.stable),
            candidate=self._name_of(state.candidate),
            previous=self._name_of(state.previous),
            weight=state.weight,
            since=state.since,
            verdicts=tuple(
                VerdictView(result.gate, result.verdict, result.reason, result.message) for result in decision.results
            ),
            edit=edit,
            rejected=rejected,
            rejected_version=given_up.version if given_up is not None else "",
            notes=notes,
            happenings=tuple(self._happenings),
        )
