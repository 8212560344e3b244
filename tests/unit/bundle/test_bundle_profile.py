"""The profile in a bundle: fitted when there is enough, refused or left out when not, verified, shown, compared."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from latentry_serving.bundle.build import build_bundle
from latentry_serving.bundle.diff import diff_bundles
from latentry_serving.bundle.profile import has_profile, load_profile
from latentry_serving.bundle.spec import BundleSpec, parse_spec
from latentry_serving.bundle.store import file_entries, list_files, load_manifest
from latentry_serving.bundle.summary import summarise
from latentry_serving.bundle.verify import verify_bundle
from latentry_serving.contract.errors import InvalidInput
from latentry_serving.contract.manifest import MANIFEST_FILE
from latentry_serving.contract.watched import watched_tensors

Document = Callable[..., dict[str, Any]]
MakeSpec = Callable[..., BundleSpec]
WINDOW = {"window": 150}
ENCODER, VAE = ["input", "embedding"], ["input", "posterior_mean", "posterior_log_variance", "reconstruction_error"]


@pytest.fixture(scope="module")
def profiled(pristine: Path, tmp_path_factory: pytest.TempPathFactory, make_document: Document) -> Path:
    """The VAE's bundle with a profile, to be read only."""
    out = tmp_path_factory.mktemp("profiled") / "vae"
    build_bundle(parse_spec(make_document(profile=WINDOW)), base_dir=pristine, out_dir=out)
    return out


@pytest.fixture
def spoilt(profiled: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(profiled, tmp_path / "spoilt"))


def reseal(bundle: Path) -> None:
    """Makes the manifest list what is there, as someone would who wants a change to go through."""
    manifest = load_manifest(bundle).model_copy(update={"files": file_entries(bundle)})
    (bundle / MANIFEST_FILE).write_bytes(manifest.to_bytes())


@pytest.mark.parametrize(
    ("family", "watched", "health"),
    [
        ("Encoder", ENCODER, {"encoder"}),
        ("Autoencoder", [*ENCODER, "reconstruction_error"], {"reconstruction"}),
        ("VAE", VAE, {"posterior", "reconstruction"}),
    ],
)
def test_every_family_has_its_tensors_and_its_health(
    folder: Path, tmp_path: Path, make_spec: MakeSpec, family: str, watched: list[str], health: set[str]
) -> None:
    manifest = build_bundle(make_spec(family, profile=WINDOW), base_dir=folder, out_dir=tmp_path / "out")
    profile = load_profile(tmp_path / "out", manifest)
    assert profile is not None
    assert list(profile.drift.tensors) == [w.name for w in watched_tensors(manifest.contract)] == watched
    assert set(profile.health.present) == health
    assert profile.window == 150
    assert profile.drift.provenance["inputs"] == manifest.provenance.sources["reference"]
    assert verify_bundle(tmp_path / "out").watched == tuple(watched)


def test_every_file_of_the_profile_is_in_the_manifest(profiled: Path) -> None:
    manifest = load_manifest(profiled)
    listed = [entry.path for entry in manifest.files]
    assert listed == list_files(profiled)
    assert {"profile/profile.json", "profile/health/health.json"} <= set(listed)
    assert "scipy" in manifest.provenance.tools


_BUILD = """
import sys
from pathlib import Path
from latentry_serving.bundle.build import build_bundle
from latentry_serving.bundle.spec import load_spec
spec, out = map(Path, sys.argv[1:])
print(build_bundle(load_spec(spec), base_dir=spec.parent, out_dir=out).digest)
"""


def test_another_process_with_more_threads_seals_the_same_digest(
    folder: Path, tmp_path: Path, make_document: Document, profiled: Path
) -> None:
    (folder / "spec.yaml").write_text(yaml.safe_dump(make_document(profile=WINDOW)))
    environment = os.environ | {
        "PYTHONHASHSEED": "7",
        "OMP_NUM_THREADS": "2",
        "OPENBLAS_NUM_THREADS": "2",
        "TZ": "UTC+5",
    }
    command = [sys.executable, "-c", _BUILD, str(folder / "spec.yaml"), str(tmp_path / "out")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split()[-1] == load_manifest(profiled).digest
    for path in list_files(profiled):
        assert (profiled / path).read_bytes() == (tmp_path / "out" / path).read_bytes(), path


def test_too_little_reference_is_refused_only_where_a_profile_was_asked_for(
    folder: Path, tmp_path: Path, make_spec: MakeSpec
) -> None:
    with pytest.raises(InvalidInput) as refused:
        build_bundle(make_spec(profile={}), base_dir=folder, out_dir=tmp_path / "out")
    (problem,) = refused.value.problems
    assert problem.path == "profile.window"
    assert problem.problem == "1797 inputs are 3 windows of 500, fewer than 4"
    assert "give 2000 inputs or more (5000 to calibrate well), or a window of 449 or fewer" in problem.remedy
    assert not (tmp_path / "out").exists()

    told: list[str] = []
    manifest = build_bundle(make_spec(), base_dir=folder, out_dir=tmp_path / "out", warn=told.append)
    assert not has_profile(manifest)
    assert load_profile(tmp_path / "out", manifest) is None
    assert len(told) == 1
    assert "built without a profile" in told[0]
    assert "1797 inputs are 3 windows of 500" in told[0]
    assert verify_bundle(tmp_path / "out").watched == ()
    assert summarise(tmp_path / "out").profile is None

    told.clear()
    build_bundle(make_spec(profile=False), base_dir=folder, out_dir=tmp_path / "off", warn=told.append)
    assert told == []


def test_few_windows_are_warned_about(folder: Path, tmp_path: Path, make_spec: MakeSpec) -> None:
    told: list[str] = []
    build_bundle(
        make_spec("Encoder", profile={"window": 300}), base_dir=folder, out_dir=tmp_path / "a", warn=told.append
    )
    assert any("1797 inputs are 5 windows of 300" in text and "3000 inputs or a window of 179" in text for text in told)
    told.clear()
    build_bundle(
        make_spec("Encoder", profile={"window": 179}), base_dir=folder, out_dir=tmp_path / "b", warn=told.append
    )
    assert told == []


def test_other_inputs_and_their_times(
    folder: Path, tmp_path: Path, make_spec: MakeSpec, digits: np.ndarray[Any, Any]
) -> None:
    """Inputs given in disorder with times are put in order: the profile is that of the ordered ones."""
    start = np.datetime64("2026-03-01T00:00:00")
    times = start + np.arange(800).astype("timedelta64[s]")
    shuffled = np.random.default_rng(0).permutation(800)
    np.save(folder / "later.npy", digits[:800][shuffled])
    np.save(folder / "times.npy", times[shuffled])
    np.save(folder / "ordered.npy", digits[:800])
    np.save(folder / "seconds.npy", times.astype(np.int64))
    manifests = [
        build_bundle(
            make_spec("Encoder", profile={"window": 100, "inputs": {"path": inputs}, "timestamps": {"path": stamps}}),
            base_dir=folder,
            out_dir=tmp_path / inputs,
            warn=lambda _: None,
        )
        for inputs, stamps in (("later.npy", "times.npy"), ("ordered.npy", "seconds.npy"))
    ]
    assert {"profile/inputs", "profile/timestamps"} <= manifests[0].provenance.sources.keys()
    arrays = [
        {p: (tmp_path / name / p).read_bytes() for p in list_files(tmp_path / name) if p.startswith("profile/0-")}
        for name in ("later.npy", "ordered.npy")
    ]
    assert arrays[0] == arrays[1]


@pytest.mark.parametrize(
    ("profile", "path", "words"),
    [
        ({"window": 10}, "profile.window", "greater than or equal to 20"),
        ({"windows": 100}, "profile.windows", "did you mean window?"),
        ("yes", "profile", "valid dictionary"),
        ({"window": 100, "inputs": {"path": "gone.npy"}}, "profile.inputs.path", "does not exist"),
        ({"window": 100, "inputs": {"path": "flat.npy"}}, "profile.inputs.path", "shape [1797, 64]"),
        ({"window": 100, "timestamps": {"path": "gone.npy"}}, "profile.timestamps.path", "does not exist"),
        ({"window": 100, "timestamps": {"path": "few.npy"}}, "profile.timestamps.path", "each of the 1797 inputs"),
        ({"window": 100, "timestamps": {"path": "nan.npy"}}, "profile.timestamps.path", "1797 missing"),
        ({"window": 100, "timestamps": {"path": "words.npy"}}, "profile.timestamps.path", "<U1"),
    ],
)
def test_bad_profile_sections(
    folder: Path, tmp_path: Path, make_spec: MakeSpec, digits: np.ndarray[Any, Any], profile: Any, path: str, words: str
) -> None:
    np.save(folder / "flat.npy", digits.reshape(-1, 64))
    np.save(folder / "few.npy", np.arange(5.0))
    np.save(folder / "nan.npy", np.full(1797, np.nan))
    np.save(folder / "words.npy", np.full(1797, "x"))
    with pytest.raises(InvalidInput) as refused:
        build_bundle(make_spec(profile=profile), base_dir=folder, out_dir=tmp_path / "out")
    assert any(p.path == path and words in str(p) for p in refused.value.problems), str(refused.value)
    assert not (tmp_path / "out").exists()


def test_inputs_that_never_vary_are_not_watched(
    folder: Path, tmp_path: Path, make_spec: MakeSpec, digits: np.ndarray[Any, Any]
) -> None:
    same = np.repeat(digits[:1], 800, axis=0)
    np.save(folder / "same.npy", same)
    with pytest.raises(InvalidInput, match="nothing the model takes or gives varies"):
        build_bundle(
            make_spec("Encoder", profile={"window": 100, "inputs": {"path": "same.npy"}}),
            base_dir=folder,
            out_dir=tmp_path / "out",
        )


def test_inspect_shows_tensors_and_notes(profiled: Path) -> None:
    profile = summarise(profiled).profile
    assert profile is not None
    assert [t.name for t in profile.tensors] == VAE
    assert profile.samples == 1797
    image = profile.tensors[0]
    assert (image.dimensions, image.windows) == (64, 11)
    assert "mmd2" in image.statistics
    assert any("no timestamps" in note for note in profile.shared_notes)


def test_a_changed_profile_is_found_even_when_resealed(spoilt: Path) -> None:
    file = next((spoilt / "profile").glob("0-omega.npy"))
    np.save(file, np.load(file) + 1)
    with pytest.raises(InvalidInput, match=r"profile/0-omega\.npy"):
        verify_bundle(spoilt)
    reseal(spoilt)
    with pytest.raises(InvalidInput, match="SHA-256 differs"):
        verify_bundle(spoilt)


def test_changed_health_is_found_even_when_resealed(spoilt: Path) -> None:
    file = spoilt / "profile/health/posterior-kl.npy"
    np.save(file, np.load(file) + 1)
    reseal(spoilt)
    with pytest.raises(InvalidInput, match=r"not what health\.json promises"):
        verify_bundle(spoilt)
    (spoilt / "profile/health/health.json").write_text("{}")
    reseal(spoilt)
    with pytest.raises(InvalidInput, match="cannot be read"):
        verify_bundle(spoilt)


def test_a_profile_of_another_model_is_refused(spoilt: Path) -> None:
    path = spoilt / "profile/profile.json"
    document = json.loads(path.read_text())
    document["tensors"][1]["name"] = "embedding"
    path.write_text(json.dumps(document))
    reseal(spoilt)
    with pytest.raises(
        InvalidInput, match=r"profile\.json: embedding: is no tensor of the bundle \(input, posterior_mean"
    ):
        verify_bundle(spoilt)


def test_diff_says_what_is_watched_in_one_only(profiled: Path, built_vae: Path, folder: Path, tmp_path: Path) -> None:
    changes = diff_bundles(built_vae, profiled).changes
    assert [c.path for c in changes] == [f"profile.{name}" for name in VAE]
    assert {c.after for c in changes} == {"watched in windows of 150"}
    result = diff_bundles(profiled, built_vae)
    assert {c.reason for c in result.changes} == {"its drift is not watched any more"}
    assert result.compatible
    assert diff_bundles(profiled, profiled).changes == ()
