"""The tap and its bundle in front of the real Triton.

Covers: files checked while traffic flows; another bundle than promised, changed files; no bundle, an unreadable one;
models loaded in explicit mode with the deployment's settings, again after Triton was started again, not again after
the tap was; a model that cannot load.
"""

import json
import shutil
import subprocess
import sys

import pytest

pytestmark = pytest.mark.triton
LOAD = "{instances: 2, maxBatchSize: 3, maxQueueDelayUs: 700}"
OTHER_DIGEST = "sha256:" + "0" * 64
HEALTH = b"GET /v2/health/live HTTP/1.1\r\nHost: a\r\n\r\n"


def ready(tap) -> bool:
    return tap.get("/readyz")[0] == 200


def reasons(tap) -> str:
    return "; ".join(json.loads(tap.get("/readyz")[1])["reasons"])


def bundle(tap) -> dict:
    return json.loads(tap.get("/bundle")[1])


def forwards(tap) -> bool:
    with tap.connect() as sock:
        sock.sendall(HEALTH)
        return sock.recv(1 << 16).startswith(b"HTTP/1.1 200")


def samples(tap, name: str) -> dict[str, float]:
    """A metric's samples by the text between its braces."""
    lines = tap.get("/metrics")[1].decode().splitlines()
    found = (line.removeprefix(name + "{").rsplit("} ", 1) for line in lines if line.startswith(name + "{"))
    return {labels: float(value) for labels, value in found}


def state_of(tap) -> list[str]:
    return [labels for labels, value in samples(tap, "latentry_bundle_state").items() if value]


def test_files_are_checked_while_traffic_flows(bundle_tap, write_bundle, wire):
    large = write_bundle("exact")
    with (large.folder / "large").open("wb") as file:
        file.truncate(1 << 30)
    large.seal()
    tap = bundle_tap(large)
    assert "checking the bundle's files:" in reasons(tap)
    assert "of 1074 MB" in reasons(tap)
    assert forwards(tap)
    wire.eventually(lambda: ready(tap))
    assert bundle(tap)["state"] == "verified"
    assert bundle(tap)["bytes"] > 1 << 30


def test_another_bundle_than_promised_is_refused(bundle_tap, write_bundle, wire):
    tap = bundle_tap(write_bundle("exact"), digest=OTHER_DIGEST)
    assert f"promised was {OTHER_DIGEST}" in reasons(tap)
    assert bundle(tap)["state"] == "refused"
    assert bundle(tap)["promised"] == OTHER_DIGEST
    assert state_of(tap) == ['model="model",state="refused",version="7"']
    assert forwards(tap)
    assert not json.loads(tap.get("/probes")[1])["passed"], "nothing is probed"
    assert tap.stop() == 0


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda f: (f / "golden/encode/inputs/x.npy").write_bytes(b"short"), "golden/encode/inputs/x.npy has 5 bytes"),
        (lambda f: (f / "golden/encode/outputs/y.npy").unlink(), "golden/encode/outputs/y.npy is missing"),
        (lambda f: (f / "model.py").touch(), "model.py is not listed in the manifest"),
    ],
)
def test_changed_files_are_refused(damage, reason, bundle_tap, write_bundle, wire):
    changed = write_bundle("exact")
    damage(changed.folder)
    tap = bundle_tap(changed)
    wire.eventually(lambda: reason in reasons(tap))
    assert bundle(tap)["state"] == "refused"
    assert forwards(tap)


def test_an_unreadable_manifest_ends_the_tap(write_bundle):
    broken = write_bundle("exact")
    (broken.folder / "bundle.json").write_text("{}")
    done = subprocess.run(
        [sys.executable, "-m", "latentry_serving", "tap"],
        env={"LATENTRY_TAP_BUNDLE_DIR": str(broken.folder)},
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 2
    assert "contract: Field required" in done.stderr


@pytest.fixture
def loading_tap(explicit_triton, wheel_bundle, start_tap):
    """``loading_tap(**settings)``: a tap that has ``explicit_triton`` load ``wheel_bundle``."""

    def start(**settings: object):
        given = {"bundle_dir": wheel_bundle.folder, "digest": wheel_bundle.digest, "load": LOAD} | settings
        addresses = explicit_triton.addresses
        return start_tap(upstream_http=addresses.http, upstream_grpc=addresses.grpc, **given)

    return start


def loads(tap) -> float:
    return sum(samples(tap, "latentry_model_loads_total").values())


def test_models_are_loaded_as_asked_again_by_a_new_triton_and_once_only(explicit_triton, loading_tap, wire):
    tap = loading_tap()
    wire.eventually(lambda: "models not loaded: Triton at" in reasons(tap))
    explicit_triton.start()
    wire.eventually(lambda: ready(tap))
    for model in ("tiny_encode", "tiny_score"):
        config = explicit_triton.config(model)
        assert config["instance_group"][0]["count"] == 2
        assert (config["max_batch_size"], config["dynamic_batching"]["max_queue_delay_microseconds"]) == (3, 700)
    assert bundle(tap)["models"] == {"tiny_encode": True, "tiny_score": True}
    assert loads(tap) == 2

    explicit_triton.stop()
    wire.eventually(lambda: not ready(tap))
    explicit_triton.start()
    wire.eventually(lambda: loads(tap) == 4)
    wire.eventually(lambda: ready(tap))
    assert explicit_triton.config("tiny_score")["max_batch_size"] == 3
    wire.eventually(lambda: json.loads(tap.get("/probes")[1])["operations"][1]["outcomes"] == {"passed": 2})

    tap.kill()
    second = loading_tap()
    wire.eventually(lambda: ready(second))
    assert loads(second) == 0, "they are there, with these settings"
    second.kill()
    third = loading_tap(load=LOAD.replace("3", "4"))
    wire.eventually(lambda: ready(third))
    assert explicit_triton.config("tiny_encode")["max_batch_size"] == 4


def test_a_refused_bundle_is_not_loaded(explicit_triton, loading_tap, wire):
    explicit_triton.start()
    tap = loading_tap(digest=OTHER_DIGEST)
    assert "is refused" in reasons(tap)
    assert bundle(tap)["models"] == {"tiny_encode": False, "tiny_score": False}
    assert loads(tap) == 0
    assert forwards(tap)


def test_a_model_that_cannot_load_is_told_and_tried_again(explicit_triton, wheel_bundle, loading_tap, tmp_path, wire):
    broken = tmp_path / "broken"
    shutil.copytree(wheel_bundle.folder, broken)
    config = broken / "repository/tiny_score/config.pbtxt"
    config.write_text(config.read_text().replace('backend: "python"', 'backend: "onnxruntime"'))
    digest = type(wheel_bundle)(broken, wheel_bundle.manifest).seal().digest
    explicit_triton.start()
    tap = loading_tap(bundle_dir=broken, digest=digest)
    wire.eventually(lambda: "Triton cannot load tiny_score" in reasons(tap))
    assert "unable to find backend library" in reasons(tap)
    failed = 'model="model",outcome="failed",version="7"'
    wire.eventually(lambda: samples(tap, "latentry_model_loads_total")[failed] >= 2)
    assert bundle(tap)["models"] == {"tiny_encode": True, "tiny_score": False}
