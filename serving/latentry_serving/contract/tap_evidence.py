"""The document behind the tap's `/evidence`: all that a rollout's gates are judged from, of one replica, at once."""

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel

from latentry_serving.contract.bundle_report import ProbesReport
from latentry_serving.contract.comparison import ComparisonReport
from latentry_serving.contract.contract_report import ContractReport
from latentry_serving.contract.drift_report import DriftReport, ModelHealth
from latentry_serving.contract.slis import Latency, Slis

MOST_EVIDENCE_BYTES = 4 * 2**20
"""A reader takes no more; wide models that drift in every tensor take some hundred kilobytes."""


class TapEvidence(BaseModel):
    """One replica. Counts are since the tap's start, whose age is ``slis.uptime_seconds``."""

    model_config = ConfigDict(frozen=True, alias_generator=to_camel, populate_by_name=True)

    slis: Slis
    latency: Latency
    """All unary inference together; its list of operations is empty."""
    probes: ProbesReport | None
    """None, as contract and comparison, where the tap was given no bundle."""
    drift: DriftReport
    health: ModelHealth
    contract: ContractReport | None
    comparison: ComparisonReport | None
