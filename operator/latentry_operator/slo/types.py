"""What the compiler makes: rules as typed values, and what they are made for."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from latentry_operator.slo import names
from latentry_operator.slo.names import AlertName, Severity
from latentry_serving.contract import metrics
from latentry_serving.contract.units import Duration

SECOND = 1_000_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR


@dataclass(frozen=True, slots=True)
class Recording:
    """A recording rule.

    Attributes:
        record: name of the series it writes.
        expr: PromQL.
        labels: what the series carry beside the labels that ``expr`` leaves.
    """

    record: str
    expr: str
    labels: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Alert:
    """An alerting rule.

    Attributes:
        expr: PromQL; the alert is on where it has a sample, whose value the description shows.
        hold_for: how long it must have been so.
        summary: one line, what is wrong.
        description: the numbers, and what they are held against. Both are Prometheus' templates.
        labels: beside the labels that ``expr`` leaves.
    """

    name: AlertName
    severity: Severity
    expr: str
    hold_for: Duration
    summary: str
    description: str
    labels: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True, slots=True)
class Group:
    """Rules that Prometheus evaluates together, one after the other, every ``interval``."""

    name: str
    interval: Duration
    rules: tuple[Recording | Alert, ...]


@dataclass(frozen=True, slots=True)
class RuleSettings:
    """What the rules do not take from the LatentModel.

    Attributes:
        runbook_url: where the runbooks lie: ``<runbook_url>/<alert>.md``.
        every: how often rules are evaluated; those over a day and longer every two minutes at the most often.
        minimum_errors: errors in an alert's long window below which no budget burn is reported, however large their
            share: with ten requests an hour one error is 10 %, and tells nothing.
    """

    runbook_url: str = "https://github.com/latentry/latentry/blob/main/docs/runbooks"
    every: Duration = field(default_factory=lambda: Duration(30 * SECOND))
    minimum_errors: int = 5


@dataclass(frozen=True, slots=True)
class Identity:
    """The LatentModel whose series are meant.

    Attributes:
        namespace: None on one machine, where series have no such label.
    """

    namespace: str | None
    model: str

    @property
    def labels(self) -> dict[str, str]:
        """As series and alerts carry them."""
        return _present({names.NAMESPACE: self.namespace, names.MODEL: self.model})

    @property
    def title(self) -> str:
        """As people read it."""
        return self.model if self.namespace is None else f"{self.namespace}/{self.model}"

    def select(self, metric: str, *matchers: str, **equal: str) -> str:
        """The model's series of a metric that carries the model's name."""
        return select(metric, *matchers, **self.labels, **equal)

    def select_targets(self, metric: str, *matchers: str, **equal: str) -> str:
        """The model's series of a metric that knows the model by its scrape target only."""
        known = _present({names.NAMESPACE: self.namespace, names.TARGET_MODEL: self.model})
        return select(metric, *matchers, **known, **equal)


def _present(labels: Mapping[str, str | None]) -> dict[str, str]:
    return {name: value for name, value in labels.items() if value is not None}


def select(metric: str, *matchers: str, **equal: str) -> str:
    """An instant vector selector: labels that equal a value, and other matchers as PromQL writes them."""
    every = (*(f'{label}="{value}"' for label, value in equal.items()), *matchers)
    return f"{metric}{{{','.join(every)}}}"


def one_of(label: str, values: frozenset[str] | tuple[str, ...]) -> str:
    """A matcher for any of some words, none of which has a character with a meaning in regular expressions."""
    return f'{label}=~"{"|".join(sorted(values))}"'


INFERENCE = (
    f'{metrics.KIND}="{metrics.CallKind.UNARY}"',
    f'{metrics.OPERATION}!="{metrics.MANAGEMENT_OPERATION}"',
)
"""What an objective speaks about: neither management calls nor streams. The tap's own probes are never counted."""
