"""What a tap tells about a bundle's latent dimensions, from its profile alone, for gates that judge before traffic."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from latentry_serving.bundle.build import build_bundle
from latentry_serving.bundle.profile import load_health, load_profile
from latentry_serving.bundle.spec import BundleSpec
from latentry_serving.bundle.store import load_manifest
from latentry_serving.contract.contract_report import LatentBaseline
from latentry_serving.tap.bundle_source import BundleSource
from latentry_serving.tap.comparing import latent_baseline

MakeSpec = Callable[..., BundleSpec]


def baseline(bundle: Path) -> LatentBaseline | None:
    return latent_baseline(BundleSource(bundle, None))


def test_active_units_of_a_vae(folder: Path, tmp_path: Path, make_spec: MakeSpec) -> None:
    manifest = build_bundle(make_spec(profile={"window": 150}), base_dir=folder, out_dir=tmp_path / "out")
    profile = load_profile(tmp_path / "out", manifest)
    assert profile is not None
    assert profile.health.posterior is not None
    variance = profile.health.posterior.moments.variance
    assert baseline(tmp_path / "out") == LatentBaseline(dimensions=len(variance), active=int((variance > 0.01).sum()))


def test_dimensions_of_an_encoder_that_are_not_dead(folder: Path, tmp_path: Path, make_spec: MakeSpec) -> None:
    spec = make_spec("Encoder", profile={"window": 150})
    manifest = build_bundle(spec, base_dir=folder, out_dir=tmp_path / "out")
    found = baseline(tmp_path / "out")
    assert found is not None
    assert found.dimensions == manifest.contract.latent_dimension
    assert 0 < found.active <= found.dimensions


def test_without_a_profile_nothing_is_told(folder: Path, tmp_path: Path, make_spec: MakeSpec) -> None:
    manifest = build_bundle(make_spec(profile=False), base_dir=folder, out_dir=tmp_path / "out")
    assert load_health(tmp_path / "out", manifest) is None
    assert baseline(tmp_path / "out") is None


def test_a_profile_that_cannot_be_read_is_told_elsewhere(
    folder: Path, tmp_path: Path, make_spec: MakeSpec, caplog: pytest.LogCaptureFixture
) -> None:
    build_bundle(make_spec(profile={"window": 150}), base_dir=folder, out_dir=tmp_path / "out")
    broken = Path(shutil.copytree(tmp_path / "out", tmp_path / "broken"))
    path = broken / "profile" / "health" / "health.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 99}))
    assert load_manifest(broken).digest == load_manifest(tmp_path / "out").digest
    assert baseline(broken) is None
    assert "no baseline of the latent dimensions" in caplog.text
