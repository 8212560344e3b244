"""How two versions' embeddings are brought together: what the stable revision's tap hands out at `/compare/sample`, and
what the candidate's tap says of it at `/compare`. Whoever judges the rollout carries the one to the other."""

from enum import StrEnum
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from latentry_serving.contract.errors import InvalidInput
from latentry_serving.contract.manifest import Datatype, ReconstructionError, Sha256

SAMPLE_CONTENT_TYPE = "application/vnd.latentry.sample"
MOST_SAMPLE_BYTES = 32 * 2**20
MOST_HEAD_BYTES = 256 * 1024
MOST_NORM_RATIO = 1e6
"""Largest limit that may be asked with."""
MOST_ERROR_RATIO = 1e6
"""The same for reconstruction errors."""
MOST_ROWS = 2_048
"""Of a sample: similarities of all with all are then 32 MiB."""
BYTES_PER_ELEMENT = {
    Datatype.BOOL: 1,
    Datatype.UINT8: 1,
    Datatype.INT8: 1,
    Datatype.UINT16: 2,
    Datatype.INT16: 2,
    Datatype.FP16: 2,
    Datatype.UINT32: 4,
    Datatype.INT32: 4,
    Datatype.FP32: 4,
    Datatype.UINT64: 8,
    Datatype.INT64: 8,
    Datatype.FP64: 8,
}
"""Datatypes of inputs that can be carried; texts and BF16 cannot."""


class _Document(BaseModel):
    model_config = ConfigDict(frozen=True, alias_generator=to_camel, populate_by_name=True)


class InputSource(StrEnum):
    """Where an input is from."""

    GOLDEN = "golden"
    """Recorded in the stable revision's bundle, embedding included."""
    LIVE = "live"
    """A sampled call; the embedding is what the user got."""


class SampleInput(_Document):
    """One input tensor of some rows that have one shape."""

    name: str
    datatype: Datatype
    shape: tuple[int, ...] = Field(max_length=16)
    """Of one row."""


class SampleGroup(_Document):
    """Rows of the same shapes. Their bytes, little-endian: every input's [rows, *shape] in turn, then the embeddings
    [rows, dimensions] as FP32."""

    source: InputSource
    rows: int = Field(ge=1, le=MOST_ROWS)
    inputs: tuple[SampleInput, ...] = Field(min_length=1, max_length=64)
    reconstruction_errors: tuple[float | None, ...] = ()
    """Of each row by the stable revision's score, None where it is not known or not finite; empty for none at all."""


class SampleHead(_Document):
    """The first line of a sample, as JSON; the bytes of the groups follow after the line's end."""

    schema_version: Literal[1] = 1
    digest: Sha256
    """Of the bundle whose embeddings these are."""
    version: str
    embedding_space: str
    dimensions: int = Field(ge=1, le=16_384)
    groups: tuple[SampleGroup, ...] = Field(max_length=MOST_ROWS)
    reconstruction_error: ReconstructionError | None = None
    """What the groups' reconstruction errors mean; None without a score operation."""
    note: str = ""
    """Why there are no live inputs, or fewer than asked for; a sentence."""

    def rows(self, source: InputSource | None = None) -> int:
        """Rows of a source, or all."""
        return sum(group.rows for group in self.groups if source in (None, group.source))

    def payload_bytes(self) -> int:
        """Bytes that follow the head."""
        return sum(group_bytes(group, self.dimensions) for group in self.groups)


def group_bytes(group: SampleGroup, dimensions: int) -> int:
    """Bytes of a group. A datatype that cannot be carried counts as none."""
    row = 4 * dimensions
    for tensor in group.inputs:
        elements = BYTES_PER_ELEMENT.get(tensor.datatype, 0)
        for size in tensor.shape:
            elements *= max(0, size)
        row += elements
    return group.rows * row


def split_sample(data: bytes) -> tuple[SampleHead, memoryview]:
    """Head and payload of a sample; the payload has exactly the bytes that the head announces.

    Raises:
        InvalidInput: it is none, or too large, or holds what cannot be carried.
    """
    end = data.find(b"\n", 0, MOST_HEAD_BYTES)
    try:
        if end < 0:
            raise _refused("has no head")
        head = SampleHead.model_validate_json(data[:end])
    except ValidationError as error:
        raise _refused(f"has a head that is none: {error.errors()[0]['msg']}") from error
    for group in head.groups:
        for tensor in group.inputs:
            if tensor.datatype not in BYTES_PER_ELEMENT or any(size < 1 for size in tensor.shape):
                raise _refused(f"holds input {tensor.name} as {tensor.datatype} {list(tensor.shape)}")
        if len(group.reconstruction_errors) not in (0, group.rows):
            raise _refused(f"holds {len(group.reconstruction_errors)} reconstruction errors of {group.rows} rows")
    payload = memoryview(data)[end + 1 :]
    if len(payload) != head.payload_bytes() or head.rows() > MOST_ROWS:
        problem = f"has {len(payload)} bytes after its head and {head.rows()} rows"
        raise _refused(f"{problem}, announced are {head.payload_bytes()} bytes and {MOST_ROWS} rows at most")
    return head, payload


def _refused(problem: str) -> InvalidInput:
    return InvalidInput.one(
        "the sample of inputs", path="body", problem=problem, remedy="send what a tap's /compare/sample gave, unchanged"
    )


class ComparisonState(StrEnum):
    """Of the candidate's comparison."""

    IDLE = "idle"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


class Interval(_Document):
    """An estimate with its 95 % bounds."""

    value: float
    low: float
    high: float


class Reconstruction(_Document):
    """Reconstruction errors of the same inputs by two versions; see ``compare/reconstruction.py``."""

    inputs: int
    """That both have a finite error for."""
    not_finite: int
    """Inputs beside these for which this revision's error alone is NaN or infinite."""
    stable: float
    candidate: float
    """Mean errors, in the unit of score."""
    unavoidable: float
    """Mean error of a perfect reconstruction, in the same unit: 0 but for BinaryCrossEntropy."""
    ratio: Interval
    """Of candidate to stable, beyond the unavoidable. A hundredth of what the mean of the inputs would give is added to
    both."""


class ComparisonResult(_Document):
    """Embeddings of the same inputs by two versions; see ``compare/verdict.py``."""

    pairs: int
    golden: int
    live: int
    """Of the pairs."""
    needed: int
    """Fewest for a judgement."""
    neighbours: int
    cosine: Interval
    overlap: Interval
    recall: Interval
    norm_ratio: Interval
    """Median of |new| / |old|."""
    not_finite: int
    """Inputs beside the pairs for which this revision alone gives NaN or infinity."""
    aligned_recall: Interval | None
    """After the map, on pairs that it was not fitted on; None with too few pairs for a map."""
    space: str
    """``same``, ``alignable``, ``reindex`` or ``undecided``, by the thresholds that were asked with."""
    reconstruction: Reconstruction | None = None
    """None where one of the two has no score operation, or where errors mean something else."""
    map_bytes: int
    """Of `/compare/map.npy`; 0 where there is none. It is there also where it does not help."""
    notes: list[str]


class ComparisonReport(_Document):
    """The latest comparison of this tap's model with another version."""

    state: ComparisonState
    detail: str
    """What goes on, or why it failed; a sentence."""
    stable_digest: Sha256 | None
    """Whose embeddings are compared with; None before the first."""
    seconds_ago: float | None
    """Since it ended; None while it runs and before the first."""
    result: ComparisonResult | None
    """Of this comparison or, while it runs and after one that failed, of the one before with the same version."""
