"""``BundleSpec``: what to build a bundle from, as typed frozen values read from YAML.

Every problem of a file is reported at once, with the field's path and a remedy. Paths are relative to the file.
"""

import difflib
from enum import StrEnum
from pathlib import Path, PurePath
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from pydantic.alias_generators import to_camel

from latentry_serving.contract.errors import InvalidInput, Problem
from latentry_serving.contract.manifest import (
    Normalisation,
    NormalPrior,
    ReconstructionError,
    TensorSpec,
    Tolerance,
)
from latentry_serving.contract.operations import OPERATIONS, Family, Operation
from latentry_serving.contract.units import Duration

API_VERSION: Literal["latentry.dev/v1alpha1"] = "latentry.dev/v1alpha1"

DEFAULT_TOLERANCE = Tolerance(absolute=1e-4, relative=1e-3)
"""Wide enough for the same float32 graph on another CPU or a GPU, far below what a wrong weight does."""

SMALLEST_WINDOW = 20
"""Inputs in a drift window: of fewer nothing can be said."""


class _Frozen(BaseModel):
    model_config = ConfigDict(
        frozen=True, extra="forbid", alias_generator=to_camel, populate_by_name=True, allow_inf_nan=False
    )


class ArtifactFormat(StrEnum):
    """How a model file is written."""

    ONNX = "onnx"
    PT2 = "pt2"
    TORCHSCRIPT = "torchscript"


SUFFIX_FORMATS = {
    ".onnx": ArtifactFormat.ONNX,
    ".pt2": ArtifactFormat.PT2,
    ".pt": ArtifactFormat.TORCHSCRIPT,
    ".pth": ArtifactFormat.TORCHSCRIPT,
    ".ts": ArtifactFormat.TORCHSCRIPT,
    ".torchscript": ArtifactFormat.TORCHSCRIPT,
}


class Artifact(_Frozen):
    """One model file."""

    path: str = Field(min_length=1)
    format: ArtifactFormat | None = None
    """Left out: taken from the suffix (.onnx, .pt2, .pt, .pth, .ts, .torchscript)."""

    @property
    def resolved_format(self) -> ArtifactFormat | None:
        """The given format, else the suffix's, else None."""
        return self.format or SUFFIX_FORMATS.get(PurePath(self.path).suffix.lower())


class Artifacts(_Frozen):
    """The model's graphs. The Python API for torch modules leaves both out."""

    encoder: Artifact | None = None
    """Input(s) [batch, ...] -> embedding or latent [batch, d]; for a VAE (mean, log-variance), in this order."""
    decoder: Artifact | None = None
    """Latent [batch, d] -> reconstruction, shaped as the encoder's input."""


class Reference(_Frozen):
    """Real inputs the bundle is checked and recorded with: rows first, in the model's own input format."""

    path: str = Field(min_length=1)
    """``.npy`` for one input, ``.npz`` with one array per input name for several."""


MOST_GOLDEN_ROWS = 128
"""Rows that are recorded unless the spec says how many: a cross-version recall of .95 takes 72 pairs to be shown
(compare/bounds.py), none of which may be missed; 128 allow for one."""
FEWEST_GOLDEN_ROWS = 8
"""The same where they are large, or where the reference has no more."""
MOST_GOLDEN_BYTES = 8 * 2**20
"""Of the recorded arrays of all operations together, while these are more than the fewest rows."""


class GoldenSpec(_Frozen):
    """How many calls to record, and how closely a server must repeat them."""

    samples: int | None = Field(default=None, gt=0, le=1024)
    """Rows that are recorded of each operation. Left out: up to 128 that fit in 8 MiB, at least 8."""
    tolerances: dict[Operation, Tolerance] = Field(default_factory=dict)
    """Per operation; left out: 1e-4 absolute + 1e-3 relative."""

    @property
    def fewest(self) -> int:
        """Rows that the reference must have."""
        return FEWEST_GOLDEN_ROWS if self.samples is None else self.samples

    def rows(self, available: int, row_bytes: int) -> int:
        """How many rows are recorded.

        Args:
            available: rows of the reference.
            row_bytes: of one row of the inputs and outputs of all operations.
        """
        fitting = min(MOST_GOLDEN_ROWS, available, MOST_GOLDEN_BYTES // max(1, row_bytes))
        return max(FEWEST_GOLDEN_ROWS, fitting) if self.samples is None else self.samples


class ProfileSpec(_Frozen):
    """What the drift profile is fitted on: inputs that look as the traffic is meant to look, in the traffic's order."""

    enabled: bool = True
    """``profile: false`` is short for ``{enabled: false}``."""
    window: int = Field(default=500, ge=SMALLEST_WINDOW, le=1_000_000)
    """Inputs per window: what is judged together. Less than 4 windows of inputs are refused, 10 are well."""
    inputs: Reference | None = None
    """Left out: the reference. Give others where the model was trained on those: it knows them too well."""
    timestamps: Reference | None = None
    """``.npy`` with the time of every input, Unix seconds or datetime64: puts them in order, shows a daily cycle."""


class RuntimeSpec(_Frozen):
    """How Triton runs each operation."""

    max_batch_size: int = Field(default=32, ge=1, le=65_536)
    """Rows in one execution."""
    max_queue_delay: Duration = Duration(0)
    """Longest time a request waits for others to share its execution."""
    instances: int = Field(default=1, ge=1, le=1024)
    """Copies of each model per device."""


class ProvenanceSpec(_Frozen):
    """Where the artifacts come from, as far as the caller knows."""

    git_commit: str | None = Field(default=None, pattern=r"^[0-9a-f]{7,64}$")
    mlflow_run: str | None = Field(default=None, min_length=1)


class BundleSpec(_Frozen):
    """What to build."""

    api_version: Literal["latentry.dev/v1alpha1"] = API_VERSION
    kind: Literal["BundleSpec"] = "BundleSpec"
    name: str = Field(pattern=r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$")
    """Lower-case letters, digits and dashes, at most 63: it becomes part of every Triton model's name."""
    version: str = Field(pattern=r"^[A-Za-z0-9]([-._A-Za-z0-9]{0,62})$")
    family: Family
    latent_dimension: int = Field(gt=0)
    embedding_space: str = ""
    """Two versions share it only when their vectors may be mixed in one index. Empty: ``<name>-<version>``."""
    artifacts: Artifacts = Artifacts()
    inputs: tuple[TensorSpec, ...] | None = None
    """Left out: taken from the encoder's graph; given: checked against it. Units and ranges can only come from here."""
    normalisation: Normalisation = Normalisation.NONE
    prior: NormalPrior | None = None
    """VAE only; left out: standard normal."""
    reconstruction_error: ReconstructionError | None = None
    """Autoencoder and VAE; left out: MeanSquared."""
    preprocessing: str = ""
    reference: Reference | None = None
    profile: ProfileSpec | None = None
    """Left out: fitted on the reference when that is large enough. Given: refused when it is not."""
    golden: GoldenSpec = GoldenSpec()
    parity: Tolerance = DEFAULT_TOLERANCE
    """How closely the exported graph must repeat torch on reference inputs."""
    runtime: RuntimeSpec = RuntimeSpec()
    provenance: ProvenanceSpec = ProvenanceSpec()

    @field_validator("profile", mode="before")
    @classmethod
    def _switch(cls, value: Any) -> Any:
        return {"enabled": value} if isinstance(value, bool) else value

    @property
    def space(self) -> str:
        """The embedding space's id, default filled in."""
        return self.embedding_space or f"{self.name}-{self.version}"

    @property
    def effective_prior(self) -> NormalPrior | None:
        """The prior, default filled in; None unless a VAE."""
        return (self.prior or NormalPrior()) if self.family is Family.VAE else None

    def effective_reconstruction_error(self, *, decoder: bool) -> ReconstructionError | None:
        """The reduction score uses, default filled in; None when there is no decoder to reconstruct with."""
        return (self.reconstruction_error or ReconstructionError.MEAN_SQUARED) if decoder else None

    def tolerance(self, operation: Operation) -> Tolerance:
        """What a golden output may differ by."""
        return self.golden.tolerances.get(operation, DEFAULT_TOLERANCE)

    def operations(self, *, decoder: bool) -> tuple[Operation, ...]:
        """The operations the bundle offers: all of the family's with a decoder, only encode without."""
        return OPERATIONS[self.family] if decoder else (Operation.ENCODE,)


def load_spec(path: Path) -> BundleSpec:
    """Reads a BundleSpec file.

    Raises:
        InvalidInput: the file is missing or not YAML, or fields are missing or wrong, every one named.
    """
    subject = str(path)
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidInput.one(
            subject,
            path=path.name,
            problem=f"cannot be read: {error.strerror}",
            remedy="give a readable BundleSpec file",
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InvalidInput.one(
            subject, path=path.name, problem=f"is not YAML: {' '.join(str(error).split())}", remedy="correct the syntax"
        ) from error
    return parse_spec(raw, subject=subject)


def parse_spec(raw: Any, *, subject: str = "BundleSpec") -> BundleSpec:
    """Validates parsed YAML or JSON.

    Raises:
        InvalidInput: fields missing or wrong, every one named with a remedy.
    """
    if not isinstance(raw, dict):
        raise InvalidInput.one(
            subject,
            path="(file)",
            problem=f"holds {type(raw).__name__}, not a mapping",
            remedy="start with apiVersion: latentry.dev/v1alpha1 and kind: BundleSpec",
        )
    # A file must say what it is; the Python API need not.
    problems = [
        Problem(key, "is missing", f"write {key}: {value}")
        for key, value in (("apiVersion", API_VERSION), ("kind", "BundleSpec"))
        if key not in raw
    ]
    try:
        spec = BundleSpec.model_validate(raw)
    except ValidationError as error:
        raise InvalidInput(subject, problems + [_problem(entry) for entry in error.errors()]) from error
    problems += _file_problems(spec) + family_problems(spec, decoder=spec.artifacts.decoder is not None)
    if problems:
        raise InvalidInput(subject, problems)
    return spec


def _file_problems(spec: BundleSpec) -> list[Problem]:
    problems = []
    if spec.artifacts.encoder is None:
        problems.append(Problem("artifacts.encoder", "is missing", "give the encoder: {path: encoder.onnx}"))
    for role, artifact in (("encoder", spec.artifacts.encoder), ("decoder", spec.artifacts.decoder)):
        if artifact is not None and artifact.resolved_format is None:
            problems.append(
                Problem(
                    f"artifacts.{role}.path",
                    f"{artifact.path!r} has a suffix that names no model format",
                    f"give format: one of {', '.join(ArtifactFormat)} (a pickle is never accepted)",
                )
            )
    return problems


def family_problems(spec: BundleSpec, *, decoder: bool) -> list[Problem]:
    """What the fields say about each other: settings that the family does not have."""
    problems = []
    family = spec.family
    if spec.reference is None:
        problems.append(
            Problem("reference", "is missing", "give real inputs, reference: {path: reference.npy}, rows first")
        )
    if family is Family.ENCODER and decoder:
        problems.append(
            Problem("artifacts.decoder", "an Encoder has no decoder", "remove it, or write family: Autoencoder or VAE")
        )
    if family is not Family.ENCODER and spec.normalisation is not Normalisation.NONE:
        problems.append(
            Problem(
                "normalisation",
                f"{spec.normalisation} is for family Encoder, this is {family}",
                "write None: a normalised latent would not decode",
            )
        )
    if family is not Family.VAE and spec.prior is not None:
        problems.append(Problem("prior", f"a prior belongs to family VAE, this is {family}", "remove it"))
    if spec.reconstruction_error is not None and not decoder:
        problems.append(
            Problem("reconstructionError", "there is no decoder to reconstruct with", "remove it or give a decoder")
        )
    extra = sorted(set(spec.golden.tolerances) - set(spec.operations(decoder=decoder)))
    problems += [
        Problem(f"golden.tolerances.{operation}", "the bundle has no such operation", "remove it")
        for operation in extra
    ]
    if family is not Family.ENCODER and spec.inputs is not None and len(spec.inputs) != 1:
        problems.append(
            Problem(
                "inputs", f"{len(spec.inputs)} inputs; {family} takes one", "join them into one tensor in the graph"
            )
        )
    return problems


def _problem(entry: Any) -> Problem:
    path = ""
    for part in entry["loc"]:
        path += f"[{part}]" if isinstance(part, int) else f".{part}" if path else str(part)
    given = entry["input"]
    match entry["type"]:
        case "missing":
            return Problem(path, "is missing", "add it")
        case "extra_forbidden":
            near = difflib.get_close_matches(str(entry["loc"][-1]), _known_fields(), n=1)
            return Problem(path, "is no known field", f"did you mean {near[0]}?" if near else "remove it")
        case "enum" | "literal_error":
            return Problem(path, f"{given!r} is not allowed", f"write {entry['ctx']['expected']}")
        case "string_type" if isinstance(given, int | float):
            return Problem(path, f"{given!r} is a number, not text", f'quote it: "{given}"')
        case "string_pattern_mismatch":
            return Problem(path, f"{given!r} does not match {entry['ctx']['pattern']}", "use only those characters")
        case _:
            return Problem(path, f"{entry['msg'].removeprefix('Value error, ')}, got {given!r}", "correct it")


def _known_fields() -> list[str]:
    models: tuple[type[BaseModel], ...] = (
        BundleSpec, Artifacts, Artifact, Reference, GoldenSpec, ProfileSpec, RuntimeSpec, ProvenanceSpec,
        TensorSpec, Tolerance, NormalPrior,
    )  # fmt: skip
    return [field.alias or name for model in models for name, field in model.model_fields.items()]
