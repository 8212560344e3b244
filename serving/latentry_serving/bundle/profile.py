"""The profile in a bundle: what undrifted traffic looks like, and what a healthy model of the family shows.

    profile/profile.json, *.npy           drift: ``latentry_serving.drift.profile``
    profile/health/health.json, *.npy     the family's baselines: ``latentry_serving.health``

Every file is listed in the bundle's manifest, and in ``profile.json`` or ``health.json`` with its SHA-256 once more.
Needs numpy and scipy alone, so the tap loads it too. No pickle.
"""

import hashlib
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from latentry_serving.contract.errors import InvalidInput, Problem
from latentry_serving.contract.manifest import PROFILE_FOLDER, BundleManifest
from latentry_serving.contract.watched import watched_tensors
from latentry_serving.drift.profile import Profile, TensorProfile
from latentry_serving.health.autoencoder import AutoencoderBaseline
from latentry_serving.health.encoder import EncoderBaseline
from latentry_serving.health.vae import VaeBaseline

PROFILE_FILE = f"{PROFILE_FOLDER}/profile.json"
HEALTH_FOLDER = "health"
_HEALTH_FILE = "health.json"
_HEALTH_FORMAT = 1
_AGAIN = "fit it again (latentry profile fit), or fetch the bundle again"


@dataclass(frozen=True, slots=True)
class Health:
    """The baselines a family has; the others are None.

    Attributes:
        encoder: of the embedding; an Encoder's, and that of an Autoencoder without a decoder.
        reconstruction: of the reconstruction error, where there is a decoder.
        posterior: a VAE's, of posterior mean and log-variance.
    """

    encoder: EncoderBaseline | None = None
    reconstruction: AutoencoderBaseline | None = None
    posterior: VaeBaseline | None = None

    @property
    def present(self) -> dict[str, EncoderBaseline | AutoencoderBaseline | VaeBaseline]:
        """Those that are there, by name."""
        named = {"encoder": self.encoder, "reconstruction": self.reconstruction, "posterior": self.posterior}
        return {name: baseline for name, baseline in named.items() if baseline is not None}


@dataclass(frozen=True, slots=True)
class BundleProfile:
    """Drift profile and health baselines of one bundle, fitted on the same inputs."""

    drift: Profile
    health: Health

    @property
    def window(self) -> int:
        """Samples per window of the calibration."""
        return min(tensor.window for tensor in self.drift.tensors.values())


def has_profile(manifest: BundleManifest) -> bool:
    """Whether a bundle carries a profile; one without is valid, and not watched for drift."""
    return any(entry.path == PROFILE_FILE for entry in manifest.files)


def save_profile(bundle_dir: Path, profile: BundleProfile) -> str:
    """Writes a profile into a bundle that is being built; returns the digest of ``profile.json``."""
    folder = bundle_dir / PROFILE_FOLDER
    digest = profile.drift.save(folder)
    _save_health(folder / HEALTH_FOLDER, profile.health)
    return digest


def load_profile(bundle_dir: Path, manifest: BundleManifest) -> BundleProfile | None:
    """Reads a bundle's profile; None when it has none. Arrays are checked against their digests, and all against the
    contract (``contract_problems``).

    Raises:
        InvalidInput: files missing, changed or of another format; tensors that are not the bundle's.
    """
    if not has_profile(manifest):
        return None
    folder = bundle_dir / PROFILE_FOLDER
    profile = BundleProfile(Profile.load(folder), _load_health(folder / HEALTH_FOLDER))
    problems = contract_problems(profile, manifest)
    if problems:
        raise InvalidInput(str(bundle_dir), problems)
    return profile


def load_health(bundle_dir: Path, manifest: BundleManifest) -> Health | None:
    """The baselines alone, checked against their digests; None without a profile.

    Raises:
        InvalidInput: files missing, changed or of another format.
    """
    return _load_health(bundle_dir / PROFILE_FOLDER / HEALTH_FOLDER) if has_profile(manifest) else None


def contract_problems(profile: BundleProfile, manifest: BundleManifest) -> list[Problem]:
    """What of a profile does not fit the bundle: tensors it does not have, other dimensions, values not finite."""
    dimensions = {tensor.name: tensor.dimensions for tensor in watched_tensors(manifest.contract)}
    problems = []
    if not profile.drift.tensors:
        problems.append(Problem(PROFILE_FILE, "watches no tensor", _AGAIN))
    for name, tensor in profile.drift.tensors.items():
        has = tensor.reference.dimensions
        if name not in dimensions:
            known = ", ".join(dimensions)
            problems.append(Problem(f"{PROFILE_FILE}: {name}", f"is no tensor of the bundle ({known})", _AGAIN))
        elif has != dimensions[name]:
            problem = f"has {has} dimensions, the bundle's has {dimensions[name]}"
            problems.append(Problem(f"{PROFILE_FILE}: {name}", problem, _AGAIN))
        problems += [
            Problem(f"{PROFILE_FILE}: {name}", f"{part} holds values that are not finite", _AGAIN)
            for part, array in _numbers(tensor)
            if not np.isfinite(array).all()
        ]
    latent = profile.health.posterior or profile.health.encoder
    if latent is not None and (has := _health_dimensions(latent)) != manifest.contract.latent_dimension:
        problem = f"is of {has} dimensions, the bundle's latent has {manifest.contract.latent_dimension}"
        problems.append(Problem(f"{PROFILE_FOLDER}/{HEALTH_FOLDER}/{_HEALTH_FILE}", problem, _AGAIN))
    return problems


def _numbers(tensor: TensorProfile) -> list[tuple[str, Any]]:
    """What every judgement computes with. ``left_out_p`` is not: a window not judged is NaN there."""
    reference, baseline = tensor.reference, tensor.baseline
    named = [(name, getattr(reference, name)) for name in ("mean", "scale", "lower", "upper", "bin_shares", "basis")]
    named += [(name, getattr(baseline, name)) for name in ("counts", "features", "z", "shares")]
    return [*named, ("omega", tensor.omega), ("phase", tensor.phase)]


def _health_dimensions(baseline: EncoderBaseline | VaeBaseline) -> int:
    return len(baseline.moments.kl) if isinstance(baseline, VaeBaseline) else len(baseline.dead)


def _save_health(folder: Path, health: Health) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    files, baselines = {}, {}
    for name, baseline in health.present.items():
        arrays, meta = baseline.to_arrays()
        baselines[name] = {"meta": meta, "arrays": sorted(arrays)}
        for key, array in arrays.items():
            buffer = io.BytesIO()
            np.save(buffer, np.ascontiguousarray(array), allow_pickle=False)
            content = buffer.getvalue()
            (folder / f"{name}-{key}.npy").write_bytes(content)
            files[f"{name}-{key}.npy"] = hashlib.sha256(content).hexdigest()
    document = {"format": _HEALTH_FORMAT, "baselines": baselines, "files": files}
    (folder / _HEALTH_FILE).write_text(json.dumps(document, indent=1, sort_keys=True) + "\n", encoding="utf-8")


_KINDS: dict[str, type[EncoderBaseline] | type[AutoencoderBaseline] | type[VaeBaseline]] = {
    "encoder": EncoderBaseline,
    "reconstruction": AutoencoderBaseline,
    "posterior": VaeBaseline,
}


def _load_health(folder: Path) -> Health:
    path = folder / _HEALTH_FILE
    try:
        document = json.loads(path.read_bytes())
        if document["format"] != _HEALTH_FORMAT:
            raise _broken(path, f"is of format {document['format']!r}, this version reads {_HEALTH_FORMAT}")
        arrays = {name: _array(folder / name, sha256) for name, sha256 in document["files"].items()}
        found: dict[str, Any] = {
            name: _KINDS[name].from_arrays(_of(name, entry, arrays), entry["meta"])
            for name, entry in document["baselines"].items()
        }
        return Health(**found)
    except (OSError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise _broken(path, f"cannot be read: {error!r}") from error


def _of(name: str, entry: Mapping[str, Any], arrays: Mapping[str, Any]) -> dict[str, Any]:
    return {key: arrays[f"{name}-{key}.npy"] for key in entry["arrays"]}


def _array(path: Path, sha256: str) -> Any:
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != sha256:
        raise _broken(path, "is not what health.json promises (SHA-256 differs)")
    return np.load(io.BytesIO(content), allow_pickle=False)


def _broken(path: Path, problem: str) -> InvalidInput:
    return InvalidInput.one("profile", path=str(path), problem=problem, remedy=_AGAIN)
