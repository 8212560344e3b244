"""Golden probes on the real Triton.

Covers: a good bundle; recorded outputs that were altered; a model that is random, gives NaN, or fails; another shape;
a failure after the first pass; marks and giving way to users; traffic beside probes.
"""

import json
import threading

import httpx
import numpy as np
import pytest
import tritonclient.http as http_client

pytestmark = pytest.mark.triton
BODY = json.dumps({"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [8, 0, 0, 8]}]}).encode()


def probe(tap) -> dict:
    """The encode operation's entry of `/probes`."""
    return json.loads(tap.get("/probes")[1])["operations"][0]


def ready(tap) -> bool:
    return tap.get("/readyz")[0] == 200


def reasons(tap) -> str:
    return "; ".join(json.loads(tap.get("/readyz")[1])["reasons"])


def metric(tap, name: str, **labels: str) -> float | None:
    """A sample's value, by the labels that matter."""
    for line in tap.get("/metrics")[1].decode().splitlines():
        if line.startswith(name + "{") and all(f'{k}="{v}"' in line for k, v in labels.items()):
            return float(line.rsplit(" ", 1)[1])
    return None


def test_a_good_bundle_passes_again_and_again_and_is_no_traffic(bundle_tap, write_bundle, wire):
    tap = bundle_tap(write_bundle("exact"))
    wire.eventually(lambda: ready(tap))
    wire.eventually(lambda: probe(tap)["outcomes"].get("passed", 0) >= 3)
    last = probe(tap)
    assert last["outcome"] == "passed"
    assert last["largestError"] < 1e-5
    assert last["determinismError"] < 1e-5
    assert metric(tap, "latentry_golden_probe_passed", operation="encode", version="7") == 1
    assert metric(tap, "latentry_golden_probe_last_run_timestamp_seconds") > 1.7e9
    assert tap.outcomes("encode", "http") == {}
    assert tap.slis().connections["http"] == 0
    assert (tap.slis().version, tap.slis().digest) == ("7", json.loads(tap.get("/bundle")[1])["digest"])
    assert tap.stop() == 0


@pytest.mark.parametrize(
    ("model", "output", "outcome", "reason"),
    [
        ("exact", "altered", "out_of_tolerance", "y differs from what was recorded by up to 0.25"),
        ("exact", "wider", "wrong_shape", "y has shape [4, 2], recorded is [4, 3]"),
        ("noisy", "right", "not_deterministic", "y differs between two calls in a row"),
        ("broken", "right", "non_finite", "y has 8 of 8 values that are not finite"),
        ("failing", "right", "error_answer", "indices element out of data bounds"),
        ("absent", "right", "error_answer", "Request for unknown model: 'absent' is not found"),
    ],
)
def test_what_fails_is_never_ready_and_says_why(model, output, outcome, reason, bundle_tap, write_bundle, wire, golden):
    tap = bundle_tap(write_bundle(model, golden[output]))
    wire.eventually(lambda: probe(tap)["outcomes"].get(outcome, 0) >= 2)
    assert not ready(tap)
    assert reason in reasons(tap)
    assert reason in probe(tap)["detail"]
    assert metric(tap, "latentry_golden_probe_passed", operation="encode") == 0
    assert metric(tap, "latentry_golden_probes_total", operation="encode", outcome=outcome) >= 2
    if outcome == "non_finite":
        assert metric(tap, "latentry_golden_probe_largest_error", operation="encode") == np.inf
    with http_client.InferenceServerClient(f"127.0.0.1:{tap.ports['http']}") as client:
        assert client.is_server_ready(), "traffic flows all the same"


@pytest.fixture
def golden():
    """Recorded outputs, right and wrong."""
    from latentry_serving.bundle.recorded import Array

    rows = np.random.default_rng(7).normal(size=(8, 4)).astype(np.float32)
    right: Array = rows @ (np.arange(8, dtype=np.float32).reshape(4, 2) / 8)
    altered = right.copy()
    altered[5, 1] += 0.25
    return {"right": right, "altered": altered, "wider": np.hstack([right, right[:, :1]])}


def test_a_failure_after_the_first_pass_shows_and_keeps_serving(bundle_tap, write_bundle, wire, golden):
    bundle = write_bundle("exact")
    tap = bundle_tap(bundle)
    wire.eventually(lambda: ready(tap))
    np.save(bundle.folder / "golden/encode/outputs/y.npy", golden["altered"])
    wire.eventually(lambda: metric(tap, "latentry_golden_probe_passed", operation="encode") == 0)
    assert abs(metric(tap, "latentry_golden_probe_largest_error", operation="encode") - 0.25) < 1e-5
    assert not json.loads(tap.get("/probes")[1])["passed"]
    assert ready(tap)


def test_probes_are_marked_and_give_way_for_a_while(scripted_triton, start_tap, write_bundle, wire):
    bundle = write_bundle("exact")
    script = scripted_triton
    tap = start_tap(
        upstream_http=script.address,
        upstream_grpc=script.address,
        bundle_dir=bundle.folder,
        probes="{everySeconds: 0.05, inFlightLimit: 1, postponeSeconds: 0.1}",
    )
    wire.eventually(lambda: script.probes)
    headers, request = script.probes[0]
    assert headers["latentry-probe"] == "golden"
    assert request["id"] == "latentry-golden-exact"
    assert request["inputs"][0]["shape"] == [3, 4], "no more rows than the model takes"
    wire.eventually(lambda: "HTTP 503: too busy" in reasons(tap))

    def held() -> None:
        httpx.post(f"http://127.0.0.1:{tap.ports['http']}/v2/models/exact/infer", content=BODY, timeout=30)

    users = [threading.Thread(target=held) for _ in range(2)]
    for user in users:
        user.start()
    wire.eventually(lambda: script.waiting == 2)
    seen = len(script.probes)
    wire.eventually(lambda: metric(tap, "latentry_golden_probes_postponed_total", reason="no_room") >= 2)
    wire.eventually(lambda: len(script.probes) > seen)
    script.release.set()
    for user in users:
        user.join()
    wire.eventually(lambda: tap.outcomes("encode", "http") == {"ok": 2})


def test_traffic_beside_probes(bundle_tap, write_bundle, wire):
    tap = bundle_tap(write_bundle("exact"), probes="{everySeconds: 0.001, inFlightLimit: 1000}")
    wire.eventually(lambda: ready(tap))
    before, calls = probe(tap)["outcomes"]["passed"], 300
    values = np.array([[8, 0, 0, 8]], np.float32)
    tensor = http_client.InferInput("x", [1, 4], "FP32")
    tensor.set_data_from_numpy(values)
    with http_client.InferenceServerClient(f"127.0.0.1:{tap.ports['http']}") as client:
        answers = [client.infer("exact", [tensor]).as_numpy("y").tolist() for _ in range(calls)]
    assert answers == [[[6.0, 8.0]]] * calls
    wire.eventually(lambda: tap.outcomes("encode", "http") == {"ok": calls})
    wire.eventually(lambda: probe(tap)["outcomes"]["passed"] > before)
    assert set(probe(tap)["outcomes"]) == {"passed"}
