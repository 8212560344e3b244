"""How many series one tap of a VAE shows once everything has happened. Covered: all operations over both protocols in
every way a call can end, alarms of drift and health, streams, before the first call; the top-k counted apart."""

import sys
from pathlib import Path

import numpy as np
import pytest

from latentry_serving.bundle.profile import BundleProfile, Health
from latentry_serving.contract.manifest import (
    BundleManifest,
    Contract,
    Datatype,
    Golden,
    OperationContract,
    Provenance,
    TensorSpec,
)
from latentry_serving.contract.operations import Family, Operation
from latentry_serving.contract.tap_config import Sampling, TapConfig
from latentry_serving.drift.fit import FitSettings, fit_tensor
from latentry_serving.drift.profile import Profile
from latentry_serving.health.autoencoder import AutoencoderBaseline
from latentry_serving.health.vae import VaeBaseline
from latentry_serving.tap.lifecycle import Tap

sys.path.insert(0, str(Path(__file__).parents[3]))

from bench.cardinality import TOP_K, series, used_tap, watched_windows

WINDOW = 100
MOST_SERIES = 370
"""What is left of 400 is Triton's: see test_pod_monitor."""
TOP_CONTRIBUTORS = 5


def tensor(name: str, *shape: int) -> TensorSpec:
    return TensorSpec(name=name, datatype=Datatype.FP32, shape=shape)


X, Z, ERROR = tensor("x", 6), tensor("latent", 4), tensor("reconstruction_error", 1)
POSTERIOR = (tensor("posterior_mean", 4), tensor("posterior_log_variance", 4))
CALLS = {
    Operation.ENCODE: ((X,), POSTERIOR),
    Operation.DECODE: ((Z,), (X,)),
    Operation.RECONSTRUCT: ((X,), (X,)),
    Operation.SCORE: ((X,), (ERROR,)),
    Operation.SAMPLE: ((tensor("noise", 4),), (X,)),
}
MANIFEST = BundleManifest(
    name="m",
    version="1",
    contract=Contract(
        family=Family.VAE,
        latent_dimension=4,
        embedding_space="m",
        operations={
            name: OperationContract(model=f"m_{name}", inputs=given, outputs=made)
            for name, (given, made) in CALLS.items()
        },
    ),
    golden=Golden(samples=1, tolerances={}),
    files=(),
    provenance=Provenance(sources={}),
)


@pytest.fixture(scope="module")
def watched() -> bytes:
    rng = np.random.default_rng(3)
    x = rng.normal(size=(1500, 6)).astype(np.float32)
    mean = (x @ rng.normal(size=(6, 4))).astype(np.float32)
    log_variance = (rng.normal(size=(1500, 4)) * 0.1 - 3).astype(np.float32)
    error = np.square(x).mean(axis=1, keepdims=True)
    arrays = {
        "input": x, "posterior_mean": mean, "posterior_log_variance": log_variance, "reconstruction_error": error,
    }  # fmt: skip
    settings = FitSettings(window=WINDOW, features=32)
    profile = BundleProfile(
        Profile({name: fit_tensor(name, array, settings) for name, array in arrays.items()}, 0),
        Health(
            reconstruction=AutoencoderBaseline.fit(error, window=WINDOW),
            posterior=VaeBaseline.fit(mean, log_variance, window=WINDOW),
        ),
    )
    return watched_windows(MANIFEST, profile)


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    (tmp_path / "bundle.json").write_bytes(MANIFEST.to_bytes())
    return tmp_path


def counted(tap: Tap) -> tuple[int, int]:
    families = series(tap)
    top_k = sum(families[name] for name in TOP_K)
    return families.total() - top_k, top_k


def test_a_tap_that_has_seen_everything(bundle: Path, watched: bytes) -> None:
    tap = used_tap(bundle, MANIFEST, watched, model="m")
    families, (number, top_k) = series(tap), counted(tap)
    assert number <= MOST_SERIES
    report = tap.watchers.monitoring.report()
    alarms = [one.alarm for each in report.drift.tensors for one in each.statistics if one.alarm]
    assert len(alarms) > 10, "the top-k is that of many alarms"
    assert families["latentry_drift_contribution"] <= TOP_CONTRIBUTORS * len(alarms)
    assert families["latentry_posterior_kl_nats"] == 4, "one for each of fewer dimensions than are shown"
    assert top_k == families["latentry_drift_contribution"] + 4
    for name in ("drift_score", "drift_nearness_ratio", "health_alarm", "golden_probe_passed", "samples_lost"):
        assert families[f"latentry_{name}"], f"{name} is not among what was counted"


def test_streams_cost_a_stated_number_more(bundle: Path, watched: bytes) -> None:
    number, _ = counted(used_tap(bundle, MANIFEST, watched, model="m"))
    streamed, _ = counted(used_tap(bundle, MANIFEST, watched, model="m", stream=True))
    assert 0 < streamed - number <= 40 * len(CALLS)


def test_before_the_first_call_what_rules_need_is_there(bundle: Path) -> None:
    tap = Tap(TapConfig(bundle_dir=str(bundle), sampling=Sampling(max_per_second=1)))
    shown = {
        (s.name, *(s.labels.get(label) for label in ("operation", "protocol", "outcome", "reason")))
        for family in tap.registry().collect()
        for s in family.samples
    }
    for operation in CALLS:
        for protocol, outcomes in (
            ("http", ("ok", "server_error", "reset")),
            ("grpc", ("ok", "server_error", "reset", "deadline_exceeded")),
        ):
            for outcome in outcomes:
                assert ("latentry_requests_total", operation, protocol, outcome, None) in shown
    assert ("latentry_requests_total", "other", "http", "upstream_unavailable", None) in shown
    assert ("latentry_samples_lost_total", None, None, None, "queue_full") in shown
    assert ("latentry_opaque_connections_total", None, None, None, "malformed") in shown
