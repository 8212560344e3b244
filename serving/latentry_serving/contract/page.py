"""The document behind `/page/models`: what the page shows beside the taps' own documents."""

from enum import StrEnum

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel


class _Document(BaseModel):
    model_config = ConfigDict(frozen=True, alias_generator=to_camel, populate_by_name=True)


class PageSource(StrEnum):
    """Who serves the page."""

    TAP = "tap"
    UP = "up"


class TapDocument(StrEnum):
    """The documents of a tap that the page reads: their paths."""

    SLIS = "slis"
    LATENCY = "latency"
    DRIFT = "drift"
    HISTORY = "history"
    HEALTH = "health-of-model"
    BUNDLE = "bundle"
    PROBES = "probes"


class PageRollout(_Document):
    """A change from one version to another that is under way, or was the last one."""

    state: str
    """One word, as the rollout's own documents have it."""
    message: str
    """What is waited for, or why it ended so; a sentence."""
    from_version: str
    to_version: str
    share: float | None
    """Of the traffic that goes to the new version, 0 to 1; None where it is not split."""
    since_seconds: float
    """Unix time at which it came to this state."""


class PageModel(_Document):
    """One model."""

    name: str
    version: str
    api: str
    """Prefix of its tap's paths, relative to the page: empty, or ending in a slash."""
    documents: list[TapDocument]
    """Those that can be read now."""
    phase: str
    """``Ready`` or ``Not ready`` from a tap; ``Starting``, ``Ready``, ``Restarting``, ``Failed`` or ``Stopped``."""
    message: str
    """What is waited for, or where it serves; a sentence."""
    rollout: PageRollout | None = None


class PageModels(_Document):
    """What there is to look at."""

    source: PageSource
    models: list[PageModel]
