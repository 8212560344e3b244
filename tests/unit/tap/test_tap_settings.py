"""The tap's configuration from file and environment, and the errors that name the key."""

import json

import pytest

from latentry_serving.contract.errors import InvalidInput
from latentry_serving.tap.settings import load_config


def test_defaults_without_file_and_environment():
    config = load_config(None, {})
    assert config.drain_seconds == 30
    assert str(config.upstream_grpc) == "127.0.0.1:19000"


@pytest.mark.parametrize("suffix", ["yaml", "json"])
def test_file_and_environment_on_top(suffix, tmp_path):
    path = tmp_path / f"tap.{suffix}"
    path.write_text(
        json.dumps({"model": "digits", "drainSeconds": 5, "http": {"port": 0}, "operations": {"a": "encode"}})
    )
    environment = {
        "LATENTRY_TAP_DRAIN_SECONDS": "7.5",
        "LATENTRY_TAP_UPSTREAM_GRPC": "[::1]:77",
        "LATENTRY_TAP_OPERATIONS": "{b: decode}",
        "LATENTRY_TAP_VERSION": "3",
        "LATENTRY_TAP_LATENCY_BUCKETS_SECONDS": "[0.1, 0.2]",
        "OTHER": "1",
    }
    config = load_config(path, environment)
    assert (config.model, config.version, config.drain_seconds) == ("digits", "3", 7.5)
    assert (config.upstream_grpc.host, config.upstream_grpc.port) == ("::1", 77)
    assert config.operations == {"b": "decode"}
    assert config.latency_buckets_seconds == (0.1, 0.2)


def test_every_problem_at_once_with_its_key(tmp_path):
    path = tmp_path / "tap.yaml"
    path.write_text("drainSeconds: -1\nhttp: {port: 70000}\ncolour: red\nbufferBytes: lots\n")
    environment = {"LATENTRY_TAP_MAX_CONNECTIONS": "0", "LATENTRY_TAP_COLOUR": "red", "LATENTRY_TAP_GRPC": "nowhere"}
    with pytest.raises(InvalidInput) as caught:
        load_config(path, environment)
    assert {problem.path for problem in caught.value.problems} == {
        "drainSeconds", "http.port", "colour", "bufferBytes",
        "LATENTRY_TAP_MAX_CONNECTIONS", "LATENTRY_TAP_COLOUR", "LATENTRY_TAP_GRPC",
    }  # fmt: skip
    assert "-1" in str(caught.value)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("content", ["[1, 2]", "{", "text", "1: 2"])
def test_a_file_that_is_no_mapping(content, tmp_path):
    path = tmp_path / "tap.yaml"
    path.write_text(content)
    with pytest.raises(InvalidInput, match=r"tap\.yaml"):
        load_config(path, {})


def test_a_missing_file(tmp_path):
    with pytest.raises(InvalidInput, match="No such file"):
        load_config(tmp_path / "none.yaml", {})


def test_buckets_out_of_order(tmp_path):
    with pytest.raises(InvalidInput, match="ascending"):
        load_config(None, {"LATENTRY_TAP_LATENCY_BUCKETS_SECONDS": "[0.2, 0.1]"})


def test_an_empty_file_is_the_defaults(tmp_path):
    path = tmp_path / "tap.yaml"
    path.write_text("")
    assert load_config(path, {}) == load_config(None, {})


def test_wrong_drift_settings_name_their_key(tmp_path):
    path = tmp_path / "tap.yaml"
    path.write_text(
        "drift: {window: 1, replicas: 0, topContributors: 21, scoreProbes: {perSecond: -1}, expectedRunTime: 30d}\n"
        "quality: {reconstructionErrorWithin: most}\n"
    )
    with pytest.raises(InvalidInput) as caught:
        load_config(path, {"LATENTRY_TAP_SAMPLING": "{maxPerSecond: -5}"})
    assert {problem.path for problem in caught.value.problems} == {
        "drift.window", "drift.replicas", "drift.topContributors", "drift.scoreProbes.perSecond",
        "drift.expectedRunTime", "quality.reconstructionErrorWithin", "LATENTRY_TAP_SAMPLING: maxPerSecond",
    }  # fmt: skip
