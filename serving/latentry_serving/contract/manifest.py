"""The bundle manifest ``bundle.json``: what a bundle promises, and the digests that hold it to the promise.

The digest of a bundle is the SHA-256 of the canonical bytes of its manifest, which in turn lists the SHA-256 of every
other file: one string pins everything. The bytes are canonical: UTF-8, sorted keys, two-space indent, final newline.
"""

import hashlib
import json
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from latentry_serving.contract.errors import InvalidInput, Problem
from latentry_serving.contract.operations import Family, Operation

MANIFEST_FILE = "bundle.json"
REPOSITORY_FOLDER = "repository"
GOLDEN_FOLDER = "golden"
PROFILE_FOLDER = "profile"
SCHEMA_VERSION: Literal[1] = 1

Sha256 = Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]


class _Frozen(BaseModel):
    model_config = ConfigDict(
        frozen=True, extra="forbid", alias_generator=to_camel, populate_by_name=True, allow_inf_nan=False
    )


class Datatype(StrEnum):
    """Tensor element types in the Open Inference Protocol's spelling."""

    BOOL = "BOOL"
    UINT8 = "UINT8"
    UINT16 = "UINT16"
    UINT32 = "UINT32"
    UINT64 = "UINT64"
    INT8 = "INT8"
    INT16 = "INT16"
    INT32 = "INT32"
    INT64 = "INT64"
    FP16 = "FP16"
    BF16 = "BF16"
    FP32 = "FP32"
    FP64 = "FP64"
    BYTES = "BYTES"


class Normalisation(StrEnum):
    """What the graph does to an embedding before it leaves."""

    NONE = "None"
    L2 = "L2"


class ReconstructionError(StrEnum):
    """How score reduces the difference between an input x and its reconstruction r to one number per sample."""

    MEAN_SQUARED = "MeanSquared"  # mean over elements of (x - r)^2
    SUM_SQUARED = "SumSquared"  # sum over elements of (x - r)^2
    MEAN_ABSOLUTE = "MeanAbsolute"  # mean over elements of |x - r|
    BINARY_CROSS_ENTROPY = "BinaryCrossEntropy"  # -sum x ln r + (1-x) ln(1-r), nats; x and r in [0, 1]


class TensorSpec(_Frozen):
    """One input or output of an operation."""

    name: str
    datatype: Datatype
    shape: tuple[int, ...]
    """Without the batch dimension, which is dynamic and first; -1 marks a dimension that may vary per call."""
    unit: str = ""
    """What a value means ("grey level", "nats"), empty when it has no unit."""
    range: tuple[float, float] | None = None
    """Smallest and largest value that makes sense, or None when unbounded."""


class OperationContract(_Frozen):
    """How to call one operation."""

    model: str
    """Triton model name."""
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


class NormalPrior(_Frozen):
    """A diagonal normal prior over the latent space, the same in every dimension."""

    mean: float = 0.0
    standard_deviation: float = Field(default=1.0, gt=0)


class Contract(_Frozen):
    """What clients may rely on. Two bundles with compatible contracts can replace each other."""

    family: Family
    latent_dimension: int = Field(gt=0)
    embedding_space: str
    """Two versions share it only when their vectors may be mixed in one index."""
    normalisation: Normalisation = Normalisation.NONE
    prior: NormalPrior | None = None
    reconstruction_error: ReconstructionError | None = None
    preprocessing: str = ""
    operations: dict[Operation, OperationContract]


class Tolerance(_Frozen):
    """An output passes when |actual - expected| <= absolute + relative * |expected| in every element."""

    absolute: float = Field(ge=0)
    relative: float = Field(ge=0)


class Golden(_Frozen):
    """Recorded calls: ``golden/<operation>/inputs/<tensor>.npy`` and ``.../outputs/<tensor>.npy``."""

    samples: int = Field(gt=0)
    """Rows in every golden array."""
    tolerances: dict[Operation, Tolerance]


class FileEntry(_Frozen):
    """One file of the bundle."""

    path: str
    """Relative, with forward slashes."""
    sha256: Sha256
    bytes: int = Field(ge=0)


class Provenance(_Frozen):
    """Where the bundle comes from. Holds no clock time, so that the same inputs give the same digest."""

    sources: dict[str, Sha256]
    """Digest of every file the build read, by its role ("encoder", "decoder", "reference", "spec")."""
    git_commit: str | None = None
    mlflow_run: str | None = None
    tools: dict[str, str] = Field(default_factory=dict)
    """Version of every library that shaped the graphs, by package name."""


class BundleManifest(_Frozen):
    """The parsed ``bundle.json``."""

    schema_version: Literal[1] = SCHEMA_VERSION
    name: str
    version: str
    contract: Contract
    golden: Golden
    files: tuple[FileEntry, ...]
    """Every file of the bundle but the manifest, sorted by path."""
    provenance: Provenance

    def to_bytes(self) -> bytes:
        """The canonical bytes: what is written to disk and what the digest covers."""
        data = self.model_dump(mode="json", by_alias=True, exclude_none=True)
        return (json.dumps(data, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode()

    @property
    def digest(self) -> str:
        """``sha256:<hex>`` of the canonical bytes: the bundle's identity."""
        return digest_of(self.to_bytes())

    @property
    def total_bytes(self) -> int:
        return sum(entry.bytes for entry in self.files)

    @property
    def operations_by_model(self) -> dict[str, Operation]:
        """Triton model name -> operation."""
        return {contract.model: operation for operation, contract in self.contract.operations.items()}


def digest_of(data: bytes) -> str:
    """``sha256:<hex>`` of some bytes."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def parse_manifest(data: bytes, *, subject: str) -> BundleManifest:
    """Reads ``bundle.json``.

    Args:
        data: the file's bytes.
        subject: how to name the file in errors.

    Raises:
        InvalidInput: not JSON, an unknown schema version, or fields missing or wrong, every one named.
    """
    try:
        return BundleManifest.model_validate_json(data)
    except ValidationError as error:
        raise InvalidInput(
            subject,
            [
                Problem(
                    path=".".join(str(part) for part in entry["loc"]) or MANIFEST_FILE,
                    problem=entry["msg"],
                    remedy="rebuild the bundle with this version of latentry, or fetch it again",
                )
                for entry in error.errors()
            ],
        ) from error
