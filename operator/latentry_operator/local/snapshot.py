"""What `latentry up` knows about a model at one moment: plain values between the processes and the screen."""

from dataclasses import dataclass, replace
from enum import StrEnum


class Phase(StrEnum):
    """Where a local model is in its life."""

    STARTING = "Starting"
    READY = "Ready"
    RESTARTING = "Restarting"
    FAILED = "Failed"
    STOPPED = "Stopped"


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where clients and Prometheus reach a model, ``host:port`` each, and the page that shows it, a URL."""

    http: str
    grpc: str
    admin: str
    page: str = ""


@dataclass(frozen=True, slots=True)
class Traffic:
    """What the tap measured: rate and latency over its recent window, counts since it started."""

    requests_per_second: float
    p50_seconds: float | None
    p99_seconds: float | None
    requests: int
    errors: int
    """Requests that the server failed: outcomes server_error, upstream_unavailable, reset and deadline_exceeded."""


@dataclass(frozen=True, slots=True)
class RevisionView:
    """A revision: its name, the bundle's version and digest."""

    revision: str
    version: str
    digest: str


@dataclass(frozen=True, slots=True)
class VerdictView:
    """What a gate says: Pass, Fail or Wait, a reason and a sentence with the number and the threshold."""

    gate: str
    verdict: str
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class HappeningView:
    """What happened: Unix time, Normal or Warning, a reason and a sentence."""

    at: float
    kind: str
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class RolloutView:
    """How a change of the model stands.

    Attributes:
        phase: where the candidate stands, Idle without one.
        reason: of the whole, such as Complete, Rejected, Held, Paused or the phase.
        message: a sentence with the numbers of this moment.
        serving: the revision with the traffic, empty for none.
        stable, candidate, previous: revisions; ``previous`` is kept for an undo.
        weight: the candidate's share of the traffic, percent.
        since: Unix time at which the phase began.
        edit: why the last edit of the file was refused, empty when it was not.
        rejected: the revision that was given up, empty for none, and ``rejected_version`` its bundle's version.
        notes: what of the spec is carried out otherwise on one machine.
        happenings: the last ones, the oldest first.
    """

    phase: str
    reason: str
    message: str
    serving: str
    stable: RevisionView | None
    candidate: RevisionView | None
    previous: RevisionView | None
    weight: int
    since: float
    verdicts: tuple[VerdictView, ...] = ()
    edit: str = ""
    rejected: str = ""
    rejected_version: str = ""
    notes: tuple[str, ...] = ()
    happenings: tuple[HappeningView, ...] = ()

    @property
    def news(self) -> "RolloutView":
        """Itself without the figures that change at every look: equal while there is nothing to tell."""
        verdicts = tuple(replace(verdict, message="") for verdict in self.verdicts)
        return replace(self, message="", since=0.0, verdicts=verdicts)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One model, now."""

    name: str
    version: str
    phase: Phase
    message: str
    addresses: Addresses | None = None
    traffic: Traffic | None = None
    was_ready: bool = False
    interruptions: int = 0
    """How often the model stopped being ready after it had been."""
    rollout: RolloutView | None = None
    """None before the first look."""
