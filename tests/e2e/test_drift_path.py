"""Drift through the whole path: real digits over gRPC through the tap to a real Triton, the profile from the bundle's
build. Covered: held-out digits raise nothing; noise, contrast, one class only, shifted images and other images alarm,
each named as what it is, and end up in the model's health; reconstruction errors come from score probes alone. The
demo's own trained VAE, its reference in the order of its writers: held-out writers raise nothing, one digit does."""

import importlib
import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import numpy as np
import onnx
import pytest
import torch
import tritonclient.grpc as grpc_client
from bench.rollouts_graphs import linear_networks
from numpy.typing import NDArray
from sklearn.datasets import load_digits

from latentry_serving.bundle.build import build_bundle
from latentry_serving.bundle.spec import load_spec

pytestmark = pytest.mark.triton

Images = NDArray[np.float32]
DEMO = Path(__file__).parents[2] / "examples" / "digits"
LATENTS, WINDOW, HELD_OUT = 8, 100, 300
SPEC = f"""
apiVersion: latentry.dev/v1alpha1
kind: BundleSpec
name: digits
version: "1"
family: VAE
latentDimension: {LATENTS}
artifacts: {{encoder: {{path: encoder.onnx}}, decoder: {{path: decoder.onnx}}}}
reconstructionError: MeanSquared
reference: {{path: reference.npy}}
profile: {{window: {WINDOW}}}
"""


class Digits(NamedTuple):
    """Real images [n, 1, 8, 8] in [0, 1], in an order without writers, and their classes."""

    images: Images
    classes: NDArray[np.int64]


@pytest.fixture(scope="module")
def digits() -> Digits:
    data = load_digits()
    order = np.random.Generator(np.random.PCG64(1)).permutation(len(data.images))
    return Digits((data.images[order] / 16).astype(np.float32)[:, None], data.target[order])


@pytest.fixture(scope="module")
def digits_bundle(digits: Digits, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A linear VAE: principal components with a posterior variance that depends on the input."""
    folder = tmp_path_factory.mktemp("digits")
    reference = digits.images[:-HELD_OUT]
    networks = linear_networks(reference, LATENTS)
    onnx.save(networks.encoder, folder / "encoder.onnx")
    onnx.save(networks.decoder, folder / "decoder.onnx")
    np.save(folder / "reference.npy", reference)
    (folder / "spec.yaml").write_text(SPEC)
    build_bundle(load_spec(folder / "spec.yaml"), base_dir=folder, out_dir=folder / "bundle")
    return folder / "bundle"


class Serving(NamedTuple):
    """A running model: its gRPC and admin addresses, and its name in Triton."""

    grpc: str
    admin: str
    name: str

    def get(self, path: str) -> dict[str, Any]:
        found: dict[str, Any] = httpx.get(f"http://{self.admin}{path}", timeout=30).raise_for_status().json()
        return found

    def send(self, images: Images) -> dict[str, Any]:
        """Encodes images over gRPC, ten to a call; `/drift` once all of them have been looked at."""
        before = _seen(self.get("/drift"))
        with grpc_client.InferenceServerClient(self.grpc) as client:
            for start in range(0, len(images), 10):
                part = np.ascontiguousarray(images[start : start + 10])
                tensor = grpc_client.InferInput("image", list(part.shape), "FP32")
                tensor.set_data_from_numpy(part)
                client.infer(f"{self.name}_encode", [tensor])
        return self.wait(lambda drift: _seen(drift) == before + len(images))

    def wait(self, done: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        deadline = time.monotonic() + 60
        while not done(drift := self.get("/drift")):
            assert time.monotonic() < deadline, drift
            time.sleep(0.1)
        return drift


def _seen(drift: dict[str, Any]) -> int:
    """Images that every tensor of encode was fed with."""
    return min(
        (t["held"] + WINDOW * t["windows"] for t in drift["tensors"] if t["tensor"] != "reconstruction_error"),
        default=0,
    )


def alarms(drift: dict[str, Any]) -> dict[str, set[str]]:
    """Alarming tensor -> what its alarms look like."""
    return {
        tensor["tensor"]: looks
        for tensor in drift["tensors"]
        if (looks := {s["alarm"]["looksLike"] for s in tensor["statistics"] if s["alarm"]})
    }


@pytest.fixture
def serve(up: Any, tmp_path: Path) -> Callable[[Path], Serving]:
    """`latentry up` on a bundle, with a tap that samples everything; fresh, so that no window spans two tests."""

    def start(bundle: Path) -> Serving:
        (tmp_path / "digits.yaml").write_text(
            "apiVersion: latentry.dev/v1alpha1\nkind: LatentModel\nmetadata: {name: digits}\n"
            f"spec:\n  family: VAE\n  bundle: {{uri: 'file://{bundle}'}}\n"
            f"  monitoring: {{sampling: {{maxPerSecond: 100000}}, drift: {{window: {WINDOW}, expectedRunTime: 24h}}}}\n"
        )
        addresses = up("digits.yaml").wait_for("Ready")["digits"]["addresses"]
        name = json.loads((bundle / "bundle.json").read_text())["name"]
        path = Serving(addresses["grpc"], addresses["admin"], name)
        path.wait(lambda drift: drift["state"] == "watching")
        return path

    return start


@pytest.fixture
def serving(serve: Callable[[Path], Serving], digits_bundle: Path) -> Serving:
    return serve(digits_bundle)


def noise(digits: Digits) -> Images:
    images = digits.images[-HELD_OUT:]
    return images + np.random.Generator(np.random.PCG64(2)).normal(0, 0.3, images.shape).astype(np.float32)


DRIFTS: dict[str, tuple[Callable[[Digits], Images], set[str]]] = {
    "noise": (noise, {"noise"}),
    "contrast": (lambda d: d.images[-HELD_OUT:] * np.float32(0.6), {"scale"}),
    "one class only": (lambda d: d.images[d.classes == 3], {"mixture change"}),
    "shifted": (lambda d: np.roll(d.images[-HELD_OUT:], 2, axis=3), {"dead dimensions"}),
    "another data set": (lambda d: 1 - d.images[-HELD_OUT:], set()),
}


def test_held_out_digits_raise_nothing(serving: Serving, digits: Digits) -> None:
    drift = serving.send(digits.images[-HELD_OUT:])
    assert not drift["alarm"]
    states = {s["state"] for t in drift["tensors"] if t["windows"] for s in t["statistics"]}
    assert states == {"ok"}
    health = serving.get("/health-of-model")
    assert {part["part"]: part["state"] for part in health["parts"]}["posterior"] == "healthy"
    assert health["scores"]["traffic"] == 0
    serving.wait(lambda _: serving.get("/health-of-model")["scores"]["probes"] > 0)


@pytest.mark.parametrize("name", DRIFTS)
def test_drifted_digits_alarm_as_what_they_are(name: str, serving: Serving, digits: Digits) -> None:
    change, looks = DRIFTS[name]
    images = change(digits)
    found = alarms(serving.send(images[: len(images) // 10 * 10]))
    assert found, "no alarm"
    assert looks <= set().union(*found.values())
    assert "posterior_mean" in found or "input" in found


@pytest.mark.timeout(600)  # training and exporting share the machine with whatever else is tested
def test_the_demos_own_digits(
    serve: Callable[[Path], Serving], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The VAE that the demo trains; its windows differ three times as much as shuffled ones, as writers do."""
    monkeypatch.syspath_prepend(DEMO)
    demo = importlib.import_module("train")
    torch.set_num_threads(1)  # two spinning threads on two busy cores take a hundred times as long
    reference, held_out = demo.digits()
    demo.export(*demo.train(reference), tmp_path)
    np.save(tmp_path / "reference.npy", reference)
    shutil.copy(DEMO / "bundle.yaml", tmp_path)
    build_bundle(load_spec(tmp_path / "bundle.yaml"), base_dir=tmp_path, out_dir=tmp_path / "digits-vae")
    path = serve(tmp_path / "digits-vae")
    drift = path.send(held_out[:HELD_OUT])
    assert not drift["alarm"], alarms(drift)
    zeros = reference[load_digits().target[: len(reference)] == 0][:WINDOW]
    found = alarms(path.send(zeros))
    assert "mixture change" in found["posterior_mean"] & found["posterior_log_variance"], found
