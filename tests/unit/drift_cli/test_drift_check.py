"""``latentry drift check``: undrifted inputs pass, drifted ones do not and say why, bad input is explained.

Undrifted inputs fail with the stated probability of 1 %; the seeds here are fixed.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from latentry_serving.contract.errors import InvalidInput, OperationFailed
from latentry_serving.drift_cli.cli import EXIT_DRIFT, drift_app

Save = Callable[[np.ndarray], Path]
Traffic = Callable[[int, int], np.ndarray]


def call(*arguments: object) -> Result:
    return CliRunner().invoke(drift_app, ["check", *(str(argument) for argument in arguments)])


def refusal(*arguments: object) -> str:
    result = call(*arguments)
    assert isinstance(result.exception, InvalidInput), result.output
    return str(result.exception)


def test_undrifted_inputs_are_no_drift(bundle: Path, make_traffic: Traffic, save: Save) -> None:
    result = call(bundle, "--inputs", save(make_traffic(7, 630)))
    assert result.exit_code == 0, result.output
    assert "no drift" in result.output
    assert "10 windows of 60 inputs, 30 inputs at the end fill no window" in result.output
    assert "health of posterior: healthy" in result.output
    assert "0-59" in result.output


@pytest.mark.parametrize(
    ("change", "tensor", "words"),
    [
        (lambda x, rng: x + 1.0, "input", "a shift of the mean"),
        (lambda x, rng: x * 2.0, "input", "scaled by"),
        (lambda x, rng: x + rng.normal(size=x.shape).astype(np.float32), "input", "added noise"),
        (lambda x, rng: np.repeat(x[:30], 20, axis=0), "posterior_mean", "duplicates"),
        (lambda x, rng: np.where(np.arange(len(x))[:, None] % 4 == 0, np.nan, x), "input", "non-finite values"),
    ],
)
def test_drift_is_named(
    bundle: Path, make_traffic: Traffic, save: Save, change: Callable[..., np.ndarray], tensor: str, words: str
) -> None:
    drifted = change(make_traffic(7, 600), np.random.default_rng(0)).astype(np.float32)
    result = call(bundle, "--inputs", save(drifted))
    assert result.exit_code == EXIT_DRIFT, result.output
    assert f"drift of {tensor}:" in result.output
    assert words in result.output


def test_when_drift_began(bundle: Path, make_traffic: Traffic, save: Save) -> None:
    inputs = make_traffic(7, 600)
    inputs[300:] += 2
    document = json.loads(call(bundle, "--inputs", save(inputs), "--json").stdout)
    assert document["drift"]
    first = min(document["alarms"], key=lambda alarm: alarm["window"])
    assert (first["window"], first["sinceInput"]) == (5, 300)
    inputs_first = [window["tensors"][0] for window in document["windows"]]
    on = [bool(tensor["alarms"]) for tensor in inputs_first if tensor["tensor"] == "input"]
    assert on == [False] * 5 + [True] * 5
    assert {entry["part"] for entry in document["health"]} <= {"posterior", "reconstruction"}
    assert all(entry["reasons"] for entry in document["health"])


def test_json_of_no_drift(bundle: Path, make_traffic: Traffic, save: Save) -> None:
    result = call(bundle, "--inputs", save(make_traffic(7, 300)), "--json")
    document = json.loads(result.stdout)
    assert (document["drift"], document["alarms"], document["inputs"], document["window"]) == (False, [], 300, 60)
    assert len(document["windows"]) == 5
    assert 0 < document["windows"][0]["tensors"][0]["pValue"] <= 1


def test_fewer_inputs_than_a_window_are_one_smaller_window(bundle: Path, make_traffic: Traffic, save: Save) -> None:
    assert "1 windows of 45 inputs" in call(bundle, "--inputs", save(make_traffic(7, 45))).output
    assert "3 windows of 40 inputs" in call(bundle, "--inputs", save(make_traffic(7, 120)), "--window", 40).output
    assert "--inputs: 12 inputs; give 20 or more" in refusal(bundle, "--inputs", save(make_traffic(7, 12)))
    wide = refusal(bundle, "--inputs", save(make_traffic(7, 600)), "--window", 500)
    assert "--window: 500; the profile was calibrated for 60; write 20 to 60" in wide


def test_as_live_a_rarer_false_alarm_asks_for_more_evidence(bundle: Path, make_traffic: Traffic, save: Save) -> None:
    inputs = save(make_traffic(7, 600) + 0.3)
    thresholds = []
    for arguments in (["--false-alarms", 0.1], ["--expected-run-time", "30d", "--rate", 50]):
        document = json.loads(call(bundle, "--inputs", inputs, "--json", *arguments).stdout)
        shewhart = [a["threshold"] for a in document["alarms"] if a["rule"] == "shewhart" and a["tensor"] == "input"]
        thresholds.append(max(shewhart))
    assert thresholds[0] > 100 * thresholds[1]


def test_settings_that_contradict_or_say_too_little(bundle: Path, make_traffic: Traffic, save: Save) -> None:
    inputs = save(make_traffic(7, 600))
    both = refusal(bundle, "--inputs", inputs, "--false-alarms", 0.01, "--expected-run-time", "30d")
    assert "--false-alarms: 0.01 and --expected-run-time 30d both state" in both
    assert "--rate: is missing" in refusal(bundle, "--inputs", inputs, "--expected-run-time", "30d")
    short = refusal(bundle, "--inputs", inputs, "--expected-run-time", "5s", "--rate", 50)
    assert "--expected-run-time: 5 s is 4.24 windows of 1.18 s; write 12s or more" in short
    assert call(bundle, "--inputs", inputs, "--expected-run-time", "30").exit_code == 2


def test_a_bundle_without_a_profile(plain: Path, make_traffic: Traffic, save: Save) -> None:
    assert "profile: is missing" in refusal(plain, "--inputs", save(make_traffic(7, 600)))
    assert "bundle.json: cannot be read" in refusal(plain.parent / "gone", "--inputs", save(make_traffic(7, 600)))


def test_times_put_inputs_in_order(bundle: Path, make_traffic: Traffic, save: Save, tmp_path: Path) -> None:
    inputs, order = make_traffic(7, 600), np.random.default_rng(3).permutation(600)
    inputs[300:] += 2
    np.save(tmp_path / "times.npy", (1.7e9 + np.arange(600.0))[order])
    arguments = ["--inputs", save(inputs[order]), "--timestamps", tmp_path / "times.npy", "--json"]
    document = json.loads(call(bundle, *arguments).stdout)
    assert min((alarm["window"], alarm["sinceInput"]) for alarm in document["alarms"]) == (5, 300)


def write_csv(path: Path, columns: dict[str, Any]) -> Path:
    rows = zip(*columns.values(), strict=True)
    path.write_text("\n".join([",".join(columns), *(",".join(map(str, row)) for row in rows)]) + "\n")
    return path


def test_tables_say_the_same_as_arrays(bundle: Path, make_traffic: Traffic, save: Save, tmp_path: Path) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    inputs = make_traffic(7, 300)
    columns = {f"x{i}": inputs[:, i] for i in range(12)}
    stamps = [f"2026-03-01T00:{i // 60:02d}:{i % 60:02d}" for i in range(300)]
    parquet.write_table(pa.table({"x": list(inputs)}), tmp_path / "lists.parquet")
    parquet.write_table(pa.table(columns | {"at": np.array(stamps, "datetime64[us]")}), tmp_path / "wide.parquet")
    files = {
        save(inputs): [],
        write_csv(tmp_path / "a.csv", columns): [],
        write_csv(tmp_path / "b.csv", {"at": stamps, **columns}): ["--timestamps", "at"],
        tmp_path / "lists.parquet": [],
        tmp_path / "wide.parquet": ["--timestamps", "at"],
    }
    documents = [json.loads(call(bundle, "--inputs", file, "--json", *more).stdout) for file, more in files.items()]
    assert all(document["windows"] == documents[0]["windows"] for document in documents)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "has no rows under its header"),
        ("a,b\n1,2\n3\n", "has 1 values in line 3, its header names 2"),
        ("a,a\n1,2\n", "names a column twice"),
        ("a,b\n1,2\n", "'x' has shape [1, 2], the model takes [rows, 12]"),
        (
            "a,when\n1,now\n",
            "column 'when' holds no numbers; leave it out; is 'when' the time? name it with --timestamps",
        ),
    ],
)
def test_bad_csv(bundle: Path, tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "bad.csv").write_text(text)
    assert words in refusal(bundle, "--inputs", tmp_path / "bad.csv")


def test_bad_files(bundle: Path, tmp_path: Path, make_traffic: Traffic, save: Save) -> None:
    assert "does not exist; correct the path" in refusal(bundle, "--inputs", tmp_path / "gone.npy")
    (tmp_path / "notes.txt").write_text("")
    assert "give .npy, .npz, .csv or .parquet" in refusal(bundle, "--inputs", tmp_path / "notes.txt")
    (tmp_path / "cut.npy").write_bytes(b"\x93NUMPY")
    assert "is cut short or no numpy file" in refusal(bundle, "--inputs", tmp_path / "cut.npy")
    (tmp_path / "cut.parquet").write_bytes(b"PAR1")
    assert "give a whole parquet file" in refusal(bundle, "--inputs", tmp_path / "cut.parquet")
    np.savez(tmp_path / "other.npz", y=make_traffic(7, 100))
    other = refusal(bundle, "--inputs", tmp_path / "other.npz")
    assert "has nothing for input 'x'" in other
    assert "'y' is no input of the model" in other
    assert "is of type <U1" in refusal(bundle, "--inputs", save(np.full((99, 12), "a")))
    assert "has no rows" in refusal(bundle, "--inputs", save(np.zeros((0, 12), np.float32)))
    times = refusal(bundle, "--inputs", save(make_traffic(7, 100)), "--timestamps", "when")
    assert "--timestamps: when is no column of the inputs and no .npy file" in times


def test_without_pyarrow(bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    error = call(bundle, "--inputs", tmp_path / "a.parquet").exception
    assert isinstance(error, OperationFailed)
    assert "install latentry[parquet], or give .npy, .npz or .csv" in str(error)
