"""What the machine is told. Plain values; `reports` makes them from the taps' documents."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType


@dataclass(frozen=True, slots=True)
class Running:
    """What runs of one revision.

    Attributes:
        ready: replicas of the newest spec that answer.
        wanted: replicas that should run.
        created: Unix time at which its first object was made; tells old from new when memory is lost.
        restarts: of its containers, all pods together, since they were made.
        refused: why it can never become ready (a bundle that is not the promised one), else empty.
        problem: what its pods complain of, else empty.
    """

    ready: int
    wanted: int
    created: float = 0.0
    restarts: int = 0
    refused: str = ""
    problem: str = ""


class Verb(StrEnum):
    """What people can ask for."""

    PAUSE = "pause"
    RESUME = "resume"
    ABORT = "abort"
    PROMOTE = "promote"
    UNDO = "undo"
    RETRY = "retry"


@dataclass(frozen=True, slots=True)
class Command:
    """A wish. The same text is carried out once: ``undo:2`` after ``undo`` asks again."""

    verb: Verb
    text: str


def parse_command(text: str) -> Command | None:
    """Reads ``verb`` or ``verb:anything``; None for what is no command."""
    verb = text.partition(":")[0]
    return Command(Verb(verb), text) if verb in set(Verb) else None


@dataclass(frozen=True, slots=True)
class Histogram:
    """Requests by duration.

    Attributes:
        edges: seconds, ascending; one more than ``counts``.
        counts: requests between each edge and the next.
    """

    edges: tuple[float, ...] = ()
    counts: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Traffic:
    """Unary inference that a revision answered, all its replicas together.

    Attributes:
        requests: without those that were the client's fault or that the client cancelled.
        errors: of these, the server's fault.
        latency: of those that ended well.
    """

    requests: int
    errors: int
    latency: Histogram = Histogram()


class ProbeResult(StrEnum):
    """What golden probes of one operation say."""

    PASSED = "passed"
    FAILED = "failed"
    UNANSWERED = "unanswered"
    NOT_RUN = "not run"


@dataclass(frozen=True, slots=True)
class GoldenFacts:
    """The latest golden probe of one operation, the worst of all replicas; ``detail`` is a sentence."""

    operation: str
    result: ProbeResult
    detail: str = ""


class Judging(StrEnum):
    """Whether something judges the samples."""

    OFF = "off"
    STARTING = "starting"
    BROKEN = "broken"
    ON = "on"


@dataclass(frozen=True, slots=True)
class MonitorFacts:
    """Drift and health of one revision, all its replicas together.

    Attributes:
        judging: and ``detail``, a sentence about why not.
        sufficient: every watched tensor and every part of the model has a judgement.
        alarms: ``tensor/statistic`` -> one line about the drift alarm.
        unhealthy: part -> one line about what is wrong with it.
        scored: samples with a reconstruction error, since the stage began.
        anomalous: of these, beyond the profile's anomaly threshold.
    """

    judging: Judging
    detail: str = ""
    sufficient: bool = False
    alarms: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    unhealthy: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    scored: int = 0
    anomalous: int = 0


@dataclass(frozen=True, slots=True)
class ContractChange:
    """One difference between the contracts of stable and candidate."""

    path: str
    breaking: bool
    reason: str


@dataclass(frozen=True, slots=True)
class Bounded:
    """An estimate with its confidence bounds."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Reconstruction:
    """Reconstruction errors of the same inputs by stable and candidate.

    Attributes:
        count: inputs that both have a finite error for.
        stable, candidate: mean errors, in the unit of score.
        unavoidable: mean error of a perfect reconstruction.
        ratio: of candidate to stable, beyond the unavoidable.
        not_finite: inputs beside these for which the candidate's error alone is NaN or infinite.
    """

    count: int
    stable: float
    candidate: float
    unavoidable: float
    ratio: Bounded
    not_finite: int = 0


@dataclass(frozen=True, slots=True)
class Latent:
    """What a bundle's own profile says about its latent dimensions.

    Attributes:
        dimensions: all of them.
        active: that answer to the input: a VAE's active units, dimensions that are not dead otherwise.
        variational: whether it is a VAE.
    """

    dimensions: int
    active: int
    variational: bool


@dataclass(frozen=True, slots=True)
class Pairs:
    """Embeddings of the same inputs by stable and candidate, compared.

    Attributes:
        count: inputs.
        needed: inputs for a judgement.
        cosine: mean cosine of paired embeddings.
        overlap: mean share of nearest neighbours that both agree on.
        recall: share whose new embedding finds its own old one first.
        norm_ratio: median of the new embedding's length over the old one's.
        aligned_recall: recall after an orthogonal map, on inputs it was not fitted on; None where it was not fitted.
        map_uri: where the map was written, else empty.
        not_finite: inputs beside these for which the candidate alone gives NaN or infinity.
        reconstruction: errors compared; None where the two have none that mean the same.
    """

    count: int
    needed: int
    cosine: Bounded
    overlap: Bounded
    recall: Bounded
    norm_ratio: Bounded
    aligned_recall: Bounded | None = None
    map_uri: str = ""
    not_finite: int = 0
    reconstruction: Reconstruction | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """What Prometheus said to one check. ``value`` None: nothing, or not one finite number, see ``problem``."""

    value: float | None
    age_seconds: float
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the gates judge by. None or a missing key: not known yet.

    Attributes:
        stage: the state's ``stage`` that the counts began with; of another stage they count as none.
        changes: of the contract, from stable to candidate.
        stable_space, candidate_space: declared embedding spaces.
        golden: of the candidate, one for each operation.
        pairs: embeddings compared.
        pairs_problem: why there are none, or none newer; a sentence, or empty.
        incomparable: why the candidate can never be given stable's inputs; empty where it can.
        stable_latent, candidate_latent: by each bundle's own profile.
        traffic, stable_traffic: since the stage began. Where stable has none any more: its last before.
        monitor, stable_monitor: drift and health.
        answers: PromQL check -> answer.
    """

    stage: str = ""
    changes: tuple[ContractChange, ...] | None = None
    stable_space: str = ""
    candidate_space: str = ""
    golden: tuple[GoldenFacts, ...] = ()
    pairs: Pairs | None = None
    pairs_problem: str = ""
    incomparable: str | None = None
    stable_latent: Latent | None = None
    candidate_latent: Latent | None = None
    traffic: Traffic | None = None
    stable_traffic: Traffic | None = None
    monitor: MonitorFacts | None = None
    stable_monitor: MonitorFacts | None = None
    answers: Mapping[str, Answer] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True, slots=True)
class RolloutFacts:
    """One look.

    Attributes:
        target: the revision that the spec asks for.
        full: replicas at full size: what the stable revision has, at least what the spec asks for.
        revisions: what runs, by revision; a revision that is missing has no objects.
        traffic: observed shares by revision, percent: of the routes, or 100 for what the Service selects.
        evidence: about candidate and stable.
        command: the wish that stands in the annotation, done or not; None for none.
    """

    target: str
    full: int
    revisions: Mapping[str, Running]
    traffic: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    evidence: Evidence = Evidence()
    command: Command | None = None

    def ready(self, revision: str) -> int:
        """Replicas of a revision that answer."""
        running = self.revisions.get(revision)
        return running.ready if running is not None else 0
