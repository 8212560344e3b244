"""``latentry profile fit``: a bundle with a profile from later data, the same in everything else."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from typer.testing import CliRunner, Result

from latentry_serving.bundle.store import load_manifest
from latentry_serving.bundle.verify import verify_bundle
from latentry_serving.contract.errors import InvalidInput
from latentry_serving.drift_cli.cli import profile_app

Save = Callable[[np.ndarray], Path]
Traffic = Callable[[int, int], np.ndarray]


def fit(*arguments: object) -> Result:
    # With one command typer drops its name; the second keeps it where it is mounted.
    return CliRunner().invoke(profile_app, ["fit", *(str(argument) for argument in arguments)])


def test_a_profile_is_added_and_the_rest_kept(
    plain: Path, bundle: Path, make_traffic: Traffic, save: Save, tmp_path: Path
) -> None:
    inputs = save(make_traffic(5, 900))
    done = fit(plain, "--inputs", inputs, "--window", 80, "-o", tmp_path / "new")
    assert done.exit_code == 0, done.output
    assert "profile from 900 samples in windows of 80" in done.output
    old, new = load_manifest(plain), load_manifest(tmp_path / "new")
    assert (new.contract, new.golden) == (old.contract, old.golden)
    kept = {e.path: e.sha256 for e in old.files}
    assert kept.items() <= {e.path: e.sha256 for e in new.files}.items()
    assert "profile/inputs" in new.provenance.sources
    assert verify_bundle(tmp_path / "new").watched
    again = fit(bundle, "--inputs", inputs, "--window", 80, "-o", tmp_path / "again")
    assert again.exit_code == 0, again.output
    profiles = [
        {e.path: e.sha256 for e in load_manifest(tmp_path / name).files if e.path.startswith("profile/")}
        for name in ("new", "again")
    ]
    assert profiles[0] == profiles[1]


def test_what_is_refused(plain: Path, make_traffic: Traffic, save: Save, tmp_path: Path) -> None:
    out = tmp_path / "new"

    def refusal(inputs: np.ndarray, *arguments: object) -> str:
        result = fit(plain, "--inputs", save(inputs), "-o", out, *arguments)
        assert isinstance(result.exception, InvalidInput), result.output
        assert not out.exists()
        return str(result.exception)

    few = refusal(make_traffic(5, 900))
    assert "900 inputs are 1 windows of 500, fewer than 4; give 2000 inputs or more" in few
    assert "a window of 225 or fewer" in few
    gaps = make_traffic(5, 900)
    gaps[3, 4] = np.nan
    assert "holds 1 NaN or infinite values" in refusal(gaps, "--window", 80)
    assert "nothing the model takes or gives varies" in refusal(np.zeros((900, 12), np.float32), "--window", 80)
    out.mkdir()
    (out / "mine.txt").write_text("")
    result = fit(plain, "--inputs", save(make_traffic(5, 900)), "-o", out, "--window", 80)
    assert isinstance(result.exception, InvalidInput)
    assert "exists and is no bundle" in str(result.exception)
