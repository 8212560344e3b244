"""Model files: found, recognised by content and not by name alone, and refused when they are pickles."""

import zipfile
from dataclasses import dataclass
from pathlib import Path

import onnx
from onnx.external_data_helper import uses_external_data

from latentry_serving.bundle.spec import Artifact, ArtifactFormat
from latentry_serving.bundle.store import file_digest
from latentry_serving.contract.errors import InvalidInput
from latentry_serving.contract.manifest import Sha256

_PICKLE_OPCODE_PROTO = b"\x80"  # first byte of every pickle of protocol 2 and later, and of torch's old format
_PICKLE_SUFFIXES = {".pkl", ".pickle", ".joblib", ".ckpt", ".bin"}
_ZIP = b"PK"


@dataclass(frozen=True, slots=True)
class ModelFile:
    """A model file that is safe to go on with."""

    role: str
    path: Path
    format: ArtifactFormat


def find_artifact(artifact: Artifact, *, role: str, base_dir: Path, subject: str) -> ModelFile:
    """Finds a model file and checks that its content is what it is said to be.

    Raises:
        InvalidInput: missing; a pickle (nothing is loaded to find out); of another or unknown format.
    """
    path, field = base_dir / artifact.path, f"artifacts.{role}.path"
    if not path.is_file():
        raise InvalidInput.one(
            subject,
            path=field,
            problem=f"{path} {'is a folder' if path.is_dir() else 'does not exist'}",
            remedy="correct the path or copy the file there",
        )
    kind = artifact.resolved_format
    found = _content(path)
    if found == "pickle" or (kind is None and path.suffix.lower() in _PICKLE_SUFFIXES):
        raise InvalidInput.one(
            subject,
            path=field,
            problem=f"{path} is a pickle, which can run any code when loaded; it was not loaded",
            remedy="give ONNX, or save the model with torch.export.save (.pt2) or torch.jit.save (.pt)",
        )
    if kind is None or (found is not None and found != kind) or (found is None and kind is not ArtifactFormat.ONNX):
        said = f"said to be {kind}" if kind else "of no known format"
        remedy = (
            f"write format: {found}"
            if found
            else f"give one of {', '.join(ArtifactFormat)}, and check the file is whole"
        )
        raise InvalidInput.one(
            subject, path=field, problem=f"{path} is {said}, its content is {found or 'something else'}", remedy=remedy
        )
    return ModelFile(role, path, kind)


def _content(path: Path) -> str | None:
    """``pickle``, ``pt2`` or ``torchscript`` where the bytes tell; None for ONNX, which has no signature."""
    with path.open("rb") as file:
        head = file.read(2)
    if head[:1] == _PICKLE_OPCODE_PROTO:
        return "pickle"
    if head != _ZIP:
        return None
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except zipfile.BadZipFile:
        return None
    # A .pt2 that lost its end looks like the small archive of sample inputs inside it, which starts later.
    if min((entry.header_offset for entry in entries), default=0) > 0:
        return None
    names = {entry.filename.partition("/")[2] or entry.filename for entry in entries}
    if names & {"models/model.json", "serialized_exported_program.json"}:
        return ArtifactFormat.PT2
    if "constants.pkl" in names and any(name.startswith("code/") for name in names):
        return ArtifactFormat.TORCHSCRIPT
    return "pickle" if any(name.endswith(".pkl") for name in names) else None


def source_digests(file: ModelFile) -> dict[str, Sha256]:
    """Digests of a model file and of the external data files its graph names, by role."""
    digests = {file.role: file_digest(file.path)}
    if file.format is ArtifactFormat.ONNX:
        shell = onnx.load(file.path, load_external_data=False)
        locations = {
            entry.value
            for tensor in shell.graph.initializer
            if uses_external_data(tensor)
            for entry in tensor.external_data
            if entry.key == "location"
        }
        digests |= {f"{file.role}/{name}": file_digest(file.path.parent / name) for name in sorted(locations)}
    return digests
