"""What goes into the comparing process and what comes out. Pure; knows no numpy."""

from pydantic import BaseModel, ConfigDict

from latentry_serving.contract.comparison import ComparisonResult

INCOMPARABLE = 2
"""Exit code with a sentence for people on standard error."""


class Scored(BaseModel):
    """Reconstruction errors that are compared. Means are in the unit of score, of ``inputs`` rows."""

    model_config = ConfigDict(frozen=True)

    inputs: int
    not_finite: int
    stable: float
    candidate: float
    unavoidable: float
    negligible: float


class Task(BaseModel):
    """What is compared. ``old`` and ``new`` name the versions for people."""

    model_config = ConfigDict(frozen=True)

    rows: int
    old_dimensions: int
    new_dimensions: int
    golden: int
    live: int
    old: str
    new: str
    cosine: float
    overlap: float
    recall: float
    norm_ratio: float
    not_finite: int
    scored: Scored | None = None


class Finished(BaseModel):
    """The answer's first line; the files' bytes follow, in this order."""

    model_config = ConfigDict(frozen=True)

    result: ComparisonResult
    files: dict[str, int]
    """Name -> bytes."""
