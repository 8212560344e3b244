"""A bundle's profile folder: it comes back as it was saved, is the same bytes again, and errors name what is wrong."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from latentry_serving.bundle.monitoring import HealthBaselines, Monitoring, load_monitoring, save_monitoring
from latentry_serving.contract.errors import InvalidInput
from latentry_serving.drift.fit import FitSettings, fit_tensor
from latentry_serving.drift.profile import Profile
from latentry_serving.health.autoencoder import AutoencoderBaseline
from latentry_serving.health.encoder import EncoderBaseline
from latentry_serving.health.vae import VaeBaseline


@pytest.fixture(scope="module")
def monitoring() -> Monitoring:
    rng = np.random.Generator(np.random.PCG64(1))
    mean, log_variance = rng.normal(size=(1200, 4)).astype(np.float32), rng.normal(-2, 0.1, size=(1200, 4))
    errors = rng.gamma(2, size=1200)
    profile = Profile({"embedding": fit_tensor("embedding", mean, FitSettings(window=100, features=32))}, 0)
    return Monitoring(
        profile,
        HealthBaselines(
            EncoderBaseline.fit(mean, window=100),
            AutoencoderBaseline.fit(errors, window=100),
            VaeBaseline.fit(mean, log_variance, window=100),
        ),
    )


def _bytes(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_round_trip_gives_the_same_bytes(monitoring: Monitoring, tmp_path: Path) -> None:
    save_monitoring(tmp_path / "one", monitoring)
    loaded = load_monitoring(tmp_path / "one")
    assert loaded is not None
    save_monitoring(tmp_path / "two", loaded)
    assert _bytes(tmp_path / "one") == _bytes(tmp_path / "two")


def test_a_family_without_a_part_has_none(monitoring: Monitoring, tmp_path: Path) -> None:
    save_monitoring(tmp_path, Monitoring(monitoring.drift, HealthBaselines(encoder=monitoring.health.encoder)))
    loaded = load_monitoring(tmp_path)
    assert loaded is not None
    assert loaded.health.encoder is not None
    assert loaded.health.reconstruction is None
    assert loaded.health.posterior is None


def test_no_profile(tmp_path: Path) -> None:
    assert load_monitoring(tmp_path / "profile") is None


def test_a_missing_array_is_named(monitoring: Monitoring, tmp_path: Path) -> None:
    save_monitoring(tmp_path, monitoring)
    (tmp_path / "health" / "posterior-kl.npy").unlink()
    with pytest.raises(InvalidInput, match=r"health.json.*posterior-kl.npy"):
        load_monitoring(tmp_path)


def test_another_format_is_named(monitoring: Monitoring, tmp_path: Path) -> None:
    save_monitoring(tmp_path, monitoring)
    file = tmp_path / "health" / "health.json"
    file.write_text(file.read_text().replace('"format": 1', '"format": 9'))
    with pytest.raises(InvalidInput, match="is of format 9, this version reads 1"):
        load_monitoring(tmp_path)


def test_health_that_is_not_there_is_an_error(monitoring: Monitoring, tmp_path: Path) -> None:
    save_monitoring(tmp_path, monitoring)
    shutil.rmtree(tmp_path / "health")
    with pytest.raises(InvalidInput, match=r"health.json.*cannot be read"):
        load_monitoring(tmp_path)
