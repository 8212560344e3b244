"""What the analysis process is told when it starts, as JSON on its command line. Pure; knows no numpy."""

from pydantic import BaseModel, ConfigDict

from latentry_serving.contract.tap_config import Address, DriftSettings, QualitySettings, TapConfig


class AnalysisSetup(BaseModel):
    """Settings of the process.

    Attributes:
        limit_bytes: most payload bytes of one call once decoded.
        bundle_dir: of the unpacked bundle, or None.
        triton: HTTP address for score calls.
        recent_inputs, recent_bytes: how many encode inputs are kept, and their bytes together.
        resumes: whether the state of a process before is on its way: nothing is told until it is there.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    limit_bytes: int
    bundle_dir: str | None = None
    triton: Address = Address(port=0)
    drift: DriftSettings = DriftSettings()
    quality: QualitySettings = QualitySettings()
    recent_inputs: int = 0
    recent_bytes: int = 0
    resumes: bool = False

    @classmethod
    def of(cls, config: TapConfig) -> "AnalysisSetup":
        """What a tap's configuration says."""
        return cls(
            limit_bytes=config.sampling.max_bytes,
            bundle_dir=config.bundle_dir,
            triton=config.upstream_http,
            drift=config.drift,
            quality=config.quality,
            recent_inputs=config.sampling.recent_inputs,
            recent_bytes=config.sampling.recent_bytes,
        )
