"""What a bundle knows of undrifted traffic: its ``profile/`` folder, written by the build and read by the tap.

    profile/drift/     the drift profile (``drift.profile.Profile``)
    profile/health/    the family's health baselines: ``health.json`` and one ``.npy`` file per array

numpy and scipy only; no pickle.
"""

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latentry_serving.contract.errors import InvalidInput
from latentry_serving.drift.profile import Profile
from latentry_serving.health.autoencoder import AutoencoderBaseline
from latentry_serving.health.encoder import EncoderBaseline
from latentry_serving.health.vae import VaeBaseline

DRIFT_FOLDER = "drift"
HEALTH_FOLDER = "health"
_FILE = "health.json"
_FORMAT = 1


@dataclass(frozen=True, slots=True)
class HealthBaselines:
    """Of the family: an Encoder's vectors, the reconstruction errors of an Autoencoder or VAE, a VAE's posteriors."""

    encoder: EncoderBaseline | None = None
    reconstruction: AutoencoderBaseline | None = None
    posterior: VaeBaseline | None = None


@dataclass(frozen=True, slots=True)
class Monitoring:
    """A profile folder's content."""

    drift: Profile
    health: HealthBaselines


def save_monitoring(folder: Path, monitoring: Monitoring) -> None:
    """Writes a bundle's profile folder; equal content gives equal bytes."""
    monitoring.drift.save(folder / DRIFT_FOLDER)
    save_health(folder / HEALTH_FOLDER, monitoring.health)


def load_monitoring(folder: Path) -> Monitoring | None:
    """Reads a bundle's profile folder; None where there is none.

    Raises:
        InvalidInput: it cannot be read, or is of another format.
    """
    if not (folder / DRIFT_FOLDER).is_dir():
        return None
    return Monitoring(Profile.load(folder / DRIFT_FOLDER), load_health(folder / HEALTH_FOLDER))


def save_health(folder: Path, health: HealthBaselines) -> None:
    """Writes the baselines. The folder is created."""
    folder.mkdir(parents=True, exist_ok=True)
    document: dict[str, Any] = {"format": _FORMAT, "baselines": {}}
    for part in _PARTS:
        baseline = getattr(health, part)
        if baseline is None:
            continue
        arrays, meta = baseline.to_arrays()
        document["baselines"][part] = {"meta": meta, "arrays": sorted(arrays)}
        for name, array in arrays.items():
            buffer = io.BytesIO()
            np.save(buffer, np.ascontiguousarray(array), allow_pickle=False)
            (folder / f"{part}-{name}.npy").write_bytes(buffer.getvalue())
    (folder / _FILE).write_text(json.dumps(document, indent=1, sort_keys=True, allow_nan=False) + "\n")


def load_health(folder: Path) -> HealthBaselines:
    """Reads the baselines.

    Raises:
        InvalidInput: a file is missing or cannot be read, or another format.
    """
    try:
        document = json.loads((folder / _FILE).read_text())
        if document["format"] != _FORMAT:
            raise _broken(folder, f"is of format {document['format']!r}, this version reads {_FORMAT}")
        found = {part: _baseline(folder, part, item) for part, item in document["baselines"].items()}
        return HealthBaselines(**found)
    except OSError as error:
        raise _broken(folder, f"{error.filename} cannot be read: {error.strerror}") from error
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _broken(folder, f"cannot be read: {error!r}") from error


_PARTS: Mapping[str, type[EncoderBaseline | AutoencoderBaseline | VaeBaseline]] = {
    "encoder": EncoderBaseline,
    "reconstruction": AutoencoderBaseline,
    "posterior": VaeBaseline,
}


def _baseline(folder: Path, part: str, item: Mapping[str, Any]) -> Any:
    arrays: dict[str, NDArray[Any]] = {
        name: np.load(folder / f"{part}-{name}.npy", allow_pickle=False) for name in item["arrays"]
    }
    return _PARTS[part].from_arrays(arrays, item["meta"])


def _broken(folder: Path, problem: str) -> InvalidInput:
    return InvalidInput.one(
        "health baselines",
        path=str(folder / _FILE),
        problem=problem,
        remedy="build the bundle again, or fetch it again",
    )
