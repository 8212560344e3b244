"""The profile on disk: everything comes back, equal inputs give equal bytes, damage is noticed.

- save and load round trip, and the loaded profile judges as the fitted one
- the digest: same for the same inputs, another for another seed, checked on loading
- a changed array, a missing file, another format, no profile: InvalidInput that names the file
"""

import json
from pathlib import Path

import numpy as np
import pytest

from latentry_serving.contract.errors import InvalidInput
from latentry_serving.drift import judge
from latentry_serving.drift.fit import FitSettings, fit_tensor
from latentry_serving.drift.profile import Profile, TensorProfile
from latentry_serving.drift.windows import Window

SETTINGS = FitSettings(window=50, features=16)


def _vectors(seed: int, n: int = 600) -> np.ndarray:
    rng = np.random.Generator(np.random.PCG64(seed))
    return (rng.standard_normal((n, 6)) @ rng.standard_normal((6, 6))).astype(np.float32)


@pytest.fixture(scope="module")
def profile() -> Profile:
    wide = fit_tensor("embedding", _vectors(1), SETTINGS)
    narrow = fit_tensor("reconstruction_error", np.abs(_vectors(2)[:, 0]), SETTINGS)
    return Profile({t.name: t for t in (wide, narrow)}, seed=0, provenance={"source": "reference.npy"})


def _scores(tensor: TensorProfile, rows: np.ndarray) -> list[object]:
    window = Window(tensor.kernel(), 50, tensor.slots)
    return [judge.judged(tensor, filled, 10) for filled in window.add(rows, 0.0)]


def test_what_is_loaded_judges_as_what_was_saved(profile: Profile, tmp_path: Path) -> None:
    digest = profile.save(tmp_path / "profile")
    loaded = Profile.load(tmp_path / "profile", digest=digest)
    assert (loaded.seed, dict(loaded.provenance)) == (0, {"source": "reference.npy"})
    assert list(loaded.tensors) == list(profile.tensors)
    live = {"embedding": _vectors(1, 700)[600:], "reconstruction_error": _vectors(2, 700)[600:, :1]}
    for name, tensor in profile.tensors.items():
        again = loaded.tensors[name]
        assert again.statistics == tensor.statistics and again.report == tensor.report
        assert _scores(again, live[name]) == _scores(tensor, live[name]) != []


def test_saving_what_was_loaded_changes_no_byte(profile: Profile, tmp_path: Path) -> None:
    first = profile.save(tmp_path / "a")
    assert Profile.load(tmp_path / "a").save(tmp_path / "b") == first
    files = sorted(p.name for p in (tmp_path / "a").iterdir())
    assert files == sorted(p.name for p in (tmp_path / "b").iterdir())
    assert all((tmp_path / "a" / f).read_bytes() == (tmp_path / "b" / f).read_bytes() for f in files)


def test_equal_inputs_give_equal_bytes_and_another_seed_others(tmp_path: Path) -> None:
    def digest(name: str, seed: int) -> str:
        fitted = fit_tensor("embedding", _vectors(3), FitSettings(window=50, features=16, seed=seed))
        return Profile({"embedding": fitted}, seed=seed).save(tmp_path / name)

    assert digest("a", 0) == digest("b", 0) != digest("c", 1)


def test_no_file_is_a_pickle(profile: Profile, tmp_path: Path) -> None:
    profile.save(tmp_path)
    assert {p.suffix for p in tmp_path.iterdir()} == {".npy", ".json"}
    for path in tmp_path.glob("*.npy"):
        np.load(path, allow_pickle=False)


def test_a_changed_array_is_refused(profile: Profile, tmp_path: Path) -> None:
    profile.save(tmp_path)
    changed = tmp_path / "0-omega.npy"
    changed.write_bytes(changed.read_bytes()[:-1] + b"\x01")
    with pytest.raises(InvalidInput, match=r"0-omega\.npy.*SHA-256"):
        Profile.load(tmp_path)


def test_a_missing_file_is_named(profile: Profile, tmp_path: Path) -> None:
    profile.save(tmp_path)
    (tmp_path / "1-phase.npy").unlink()
    with pytest.raises(InvalidInput, match=r"1-phase\.npy"):
        Profile.load(tmp_path)


def test_another_digest_or_format_is_refused(profile: Profile, tmp_path: Path) -> None:
    profile.save(tmp_path)
    with pytest.raises(InvalidInput, match="has digest sha256:"):
        Profile.load(tmp_path, digest="sha256:0")
    document = json.loads((tmp_path / "profile.json").read_text())
    (tmp_path / "profile.json").write_text(json.dumps(document | {"format": 99}))
    with pytest.raises(InvalidInput, match="format 99"):
        Profile.load(tmp_path)


@pytest.mark.parametrize("content", [None, "{", "[]", '{"format": 1}'])
def test_no_profile_and_broken_json_are_refused(content: str | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "profile.json").write_text(content)
    with pytest.raises(InvalidInput, match=r"profile\.json"):
        Profile.load(tmp_path)
