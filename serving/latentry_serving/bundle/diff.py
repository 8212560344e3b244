"""Two bundles side by side: contract, files, and how far their embeddings of the same inputs lie apart."""

from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict

from latentry_serving.bundle.profile import BundleProfile, load_profile
from latentry_serving.bundle.recorded import largest_difference, load_golden
from latentry_serving.bundle.session import LOAD_ERRORS, Session, sentence
from latentry_serving.bundle.store import file_digest, load_manifest
from latentry_serving.bundle.summary import read_config
from latentry_serving.bundle.tensors import Array
from latentry_serving.contract.compatibility import Change, Effect, batch_change, contract_changes
from latentry_serving.contract.errors import InvalidInput
from latentry_serving.contract.manifest import MANIFEST_FILE, REPOSITORY_FOLDER, BundleManifest, Sha256
from latentry_serving.contract.operations import Operation
from latentry_serving.triton.model_config import MODEL_FILE, MODEL_VERSION

MIN_PAIRED_COSINE = 0.98
"""Least cosine between two versions' embeddings of one input for a shared space; the rollout gate's default."""


class FileChanges(BaseModel):
    """Paths below the bundles."""

    model_config = ConfigDict(frozen=True)

    added: tuple[str, ...]
    removed: tuple[str, ...]
    changed: tuple[str, ...]


class EmbeddingComparison(BaseModel):
    """Both bundles' encode on the first one's golden inputs, row by row."""

    model_config = ConfigDict(frozen=True)

    samples: int
    smallest_cosine: float
    mean_cosine: float
    largest_difference: float


class BundleDiff(BaseModel):
    """What changes for clients when ``after`` replaces ``before``."""

    model_config = ConfigDict(frozen=True)

    before: Sha256
    after: Sha256
    changes: tuple[Change, ...]
    files: FileChanges
    embeddings: EmbeddingComparison | None
    """None when the two do not encode the same inputs into the same number of dimensions."""

    @property
    def compatible(self) -> bool:
        """True when nothing breaks."""
        return all(change.effect is Effect.COMPATIBLE for change in self.changes)


def diff_bundles(before_dir: Path, after_dir: Path) -> BundleDiff:
    """Compares two bundles.

    Raises:
        InvalidInput: one of them cannot be read, or its encode graph does not run.
    """
    before, after = load_manifest(before_dir), load_manifest(after_dir)
    changes = contract_changes(before.contract, after.contract)
    changes += _batch_changes((before_dir, before), (after_dir, after))
    changes += _profile_changes(load_profile(before_dir, before), load_profile(after_dir, after))
    embeddings = _compare_embeddings((before_dir, before), (after_dir, after))
    if embeddings is not None and before.contract.embedding_space == after.contract.embedding_space:
        changes += _space_changes(embeddings)
    return BundleDiff(
        before=file_digest(before_dir / MANIFEST_FILE),
        after=file_digest(after_dir / MANIFEST_FILE),
        changes=tuple(changes),
        files=_file_changes(before, after),
        embeddings=embeddings,
    )


_Bundle = tuple[Path, BundleManifest]


def _file_changes(before: BundleManifest, after: BundleManifest) -> FileChanges:
    old, new = ({entry.path: entry.sha256 for entry in manifest.files} for manifest in (before, after))
    return FileChanges(
        added=tuple(sorted(new.keys() - old.keys())),
        removed=tuple(sorted(old.keys() - new.keys())),
        changed=tuple(sorted(path for path in old.keys() & new.keys() if old[path] != new[path])),
    )


def _batch_changes(before: _Bundle, after: _Bundle) -> list[Change]:
    sizes = []
    for folder, manifest in (before, after):
        operations = manifest.contract.operations
        sizes.append({op: read_config(folder, operations[op].model).max_batch_size for op in operations})
    shared = sorted(sizes[0].keys() & sizes[1].keys())
    found = (batch_change(f"operations.{op}.maxBatchSize", sizes[0][op], sizes[1][op]) for op in shared)
    return [change for change in found if change is not None]


def _profile_changes(before: BundleProfile | None, after: BundleProfile | None) -> list[Change]:
    """Tensors that are watched in one of them only, or in windows of another size. Clients notice neither."""
    old, new = (_watched(profile) for profile in (before, after))
    reasons = {
        (True, False): "its drift is not watched any more",
        (False, True): "its drift is watched from now on",
        (True, True): "it is judged in other windows: monitoring.drift.window must not be larger",
    }
    return [
        Change(
            path=f"profile.{name}",
            effect=Effect.COMPATIBLE,
            before=old.get(name, ""),
            after=new.get(name, ""),
            reason=reasons[name in old, name in new],
        )
        for name in dict.fromkeys([*old, *new])
        if old.get(name) != new.get(name)
    ]


def _watched(profile: BundleProfile | None) -> dict[str, str]:
    tensors = {} if profile is None else profile.drift.tensors
    return {name: f"watched in windows of {tensor.window}" for name, tensor in tensors.items()}


def _compare_embeddings(before: _Bundle, after: _Bundle) -> EmbeddingComparison | None:
    contracts = [manifest.contract.operations[Operation.ENCODE] for _, manifest in (before, after)]
    shapes = [[(t.name, t.datatype, t.shape) for t in contract.inputs] for contract in contracts]
    dimensions = {manifest.contract.latent_dimension for _, manifest in (before, after)}
    if shapes[0] != shapes[1] or len(dimensions) > 1:
        return None
    try:
        inputs = load_golden(before[0], Operation.ENCODE, "inputs", contracts[0].inputs)
    except (OSError, ValueError) as error:
        raise InvalidInput.one(
            str(before[0]), path="golden/encode", problem=f"cannot be read: {error}", remedy="rebuild the bundle"
        ) from error
    old, new = (_encode(folder, manifest, inputs) for folder, manifest in (before, after))
    cosines = _paired_cosines(old, new)
    return EmbeddingComparison(
        samples=len(old),
        smallest_cosine=float(cosines.min()),
        mean_cosine=float(cosines.mean()),
        largest_difference=largest_difference(old, new),
    )


def _encode(folder: Path, manifest: BundleManifest, inputs: dict[str, Array]) -> Array:
    """The embedding, latent or posterior mean: the first output of encode, [samples, d]."""
    contract = manifest.contract.operations[Operation.ENCODE]
    graph = folder / REPOSITORY_FOLDER / contract.model / MODEL_VERSION / MODEL_FILE
    try:
        return Session(graph).run_rows(inputs)[contract.outputs[0].name].astype(np.float64)
    except LOAD_ERRORS as error:
        raise InvalidInput.one(
            str(folder),
            path=graph.relative_to(folder).as_posix(),
            problem=f"does not run: {sentence(error)}",
            remedy="rebuild the bundle, or check it with latentry bundle verify",
        ) from error


def _paired_cosines(a: Array, b: Array) -> Array:
    """cos(a_i, b_i) per row of two [n, d] arrays; two zero vectors count as equal, a zero and another as orthogonal."""
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    both_zero = ~a.any(axis=1) & ~b.any(axis=1)
    products = np.einsum("nd,nd->n", a, b)
    return np.where(norms > 0, products / np.where(norms > 0, norms, 1.0), both_zero)


def _space_changes(embeddings: EmbeddingComparison) -> list[Change]:
    if embeddings.smallest_cosine >= MIN_PAIRED_COSINE:
        return []
    return [
        Change(
            path="embeddingSpace",
            effect=Effect.BREAKING,
            before="1",
            after=f"{embeddings.smallest_cosine:.4f}",
            reason=f"both claim one space, but the smallest cosine of the two embeddings of one input is below "
            f"{MIN_PAIRED_COSINE}; name another embeddingSpace",
        )
    ]
