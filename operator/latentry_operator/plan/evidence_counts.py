"""Counts of one revision since a rollout's stage began, however its replicas come, go and start again. Pure.

Every replica counts from its own base. A restarted tap begins at 0: what it had counted before stays counted, what it
counted after the last look is lost. A replica that falls silent keeps what it had; it goes on when it answers again.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from latentry_operator.plan.rollout.facts import Histogram, Traffic
from latentry_operator.plan.rollout.reports import latency, since, traffic
from latentry_serving.contract.tap_evidence import TapEvidence

MOST_REPLICAS = 1_000
"""Remembered for each revision and stage; with more, those that are silent become one sum."""


_NO_TRAFFIC = Traffic(0, 0)


@dataclass(frozen=True, slots=True)
class Counts:
    """What was counted. ``scored`` samples have a reconstruction error, ``anomalous`` of them a bad one."""

    traffic: Traffic = _NO_TRAFFIC
    scored: int = 0
    anomalous: int = 0

    def __add__(self, other: "Counts") -> "Counts":
        one, two = self.traffic, other.traffic
        together = Traffic(one.requests + two.requests, one.errors + two.errors, merged((one.latency, two.latency)))
        return Counts(together, self.scored + other.scored, self.anomalous + other.anomalous)

    def minus(self, base: "Counts") -> "Counts":
        """What was added since; never negative."""
        return Counts(
            since(self.traffic, base.traffic),
            max(0, self.scored - base.scored),
            max(0, self.anomalous - base.anomalous),
        )


NOTHING = Counts()


@dataclass(frozen=True, slots=True)
class Seen:
    """One replica.

    Attributes:
        uptime: of its tap when it was seen last, seconds.
        base: where this stage's counts begin.
        last: at the last look.
        carried: of this stage, from before its tap started again.
    """

    uptime: float
    base: Counts
    last: Counts
    carried: Counts = NOTHING

    def total(self) -> Counts:
        """Of this stage."""
        return self.carried + self.last.minus(self.base)

    def again(self, uptime: float, now: Counts) -> "Seen":
        """At the next look."""
        before = self.last
        fewer = now.traffic.requests < before.traffic.requests or now.traffic.errors < before.traffic.errors
        if uptime < self.uptime or fewer:
            return Seen(uptime, NOTHING, now, self.total())
        if now.scored < before.scored or now.anomalous < before.anomalous:  # the analysis process lost its state
            total = self.total()
            kept = Counts(self.carried.traffic, total.scored, total.anomalous)
            return Seen(uptime, Counts(self.base.traffic), now, kept)
        return replace(self, uptime=uptime, last=now)


@dataclass(frozen=True, slots=True)
class Tally:
    """One revision in one stage.

    Attributes:
        began: monotonic time at which the counts begin.
        looked: of the last look.
        gone: of replicas that are remembered no more.
    """

    began: float
    looked: float
    replicas: Mapping[str, Seen] = field(default_factory=lambda: MappingProxyType({}))
    gone: Counts = NOTHING

    def total(self) -> Counts:
        """Since the stage began, all replicas together."""
        return sum((seen.total() for seen in self.replicas.values()), self.gone)

    def lifetime(self) -> Counts:
        """Since the start of each tap, as last seen."""
        return sum((seen.last for seen in self.replicas.values()), NOTHING)

    def next_stage(self) -> "Tally":
        """The stage that begins now, with what the last look saw: it was made just before the decision."""
        replicas = {name: Seen(seen.uptime, seen.last, seen.last) for name, seen in self.replicas.items()}
        return Tally(self.looked, self.looked, MappingProxyType(replicas))

    def look(self, documents: Mapping[str, TapEvidence], now: float) -> "Tally":
        """What the replicas that answer say now."""
        replicas = dict(self.replicas)
        for name, document in documents.items():
            uptime, counts = document.slis.uptime_seconds, counted(document)
            known = replicas.get(name)
            if known is not None:
                replicas[name] = known.again(uptime, counts)
            else:
                # One that is older than the stage may have served before it: it counts from now on.
                base = NOTHING if now - uptime >= self.began else counts
                replicas[name] = Seen(uptime, base, counts)
        gone = self.gone
        if len(replicas) > MOST_REPLICAS:
            for name in [name for name in replicas if name not in documents]:
                gone += replicas.pop(name).total()
        return Tally(self.began, now, MappingProxyType(replicas), gone)


def fresh(documents: Mapping[str, TapEvidence], now: float) -> Tally:
    """Counts that begin now."""
    replicas = {}
    for name, document in documents.items():
        counts = counted(document)
        replicas[name] = Seen(document.slis.uptime_seconds, counts, counts)
    return Tally(now, now, MappingProxyType(replicas))


def counted(document: TapEvidence) -> Counts:
    """What one tap has counted since its start."""
    scores = document.health.scores
    return Counts(
        traffic([document.slis], latency([document.latency])),
        scores.traffic + scores.probes if scores is not None else 0,
        scores.anomalous if scores is not None else 0,
    )


def merged(histograms: Iterable[Histogram]) -> Histogram:
    """One histogram of several whose edges lie on one grid."""
    counts: dict[float, int] = {}
    edges: set[float] = set()
    for histogram in histograms:
        edges.update(histogram.edges)
        for edge, count in zip(histogram.edges, histogram.counts, strict=False):
            counts[edge] = counts.get(edge, 0) + count
    ordered = sorted(edges)
    return Histogram(tuple(ordered), tuple(counts.get(edge, 0) for edge in ordered[:-1]))
