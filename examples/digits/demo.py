"""The main job on one machine: train a VAE on real digits, bundle it, serve it on Triton, send it held-out digits.

Run: ``make demo``. Everything it shows is measured in this run; what it makes lies in ``.latentry/demo/``.
"""

import contextlib
import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import train
import tritonclient.grpc as grpc_client
import tritonclient.http as http_client
from pictures import contact_sheet, side_by_side
from rich.console import Console
from rich.progress import track
from rich.table import Table

from latentry_operator.local.screen import milliseconds
from latentry_serving.contract.metrics import MANAGEMENT_OPERATION, SERVER_FAULTS, Outcome
from latentry_serving.contract.slis import Slis

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent
WORK = Path(".latentry/demo")
BUNDLE = Path(".latentry/digits-vae")
SAMPLE = Path("manifests/samples/digits-vae.yaml")
REQUESTS_PER_PROTOCOL = 1_000
"""Calls for each of gRPC and HTTP: enough for a p99 that means something, in a few seconds."""

console = Console(highlight=False)


@dataclass(frozen=True)
class Served:
    """Where the running model answers, ``host:port`` each, and the URL of its live page."""

    http: str
    grpc: str
    admin: str
    page: str


def latentry(*arguments: str) -> list[str]:
    return [str(Path(sys.executable).parent / "latentry"), *arguments]


def say(step: str) -> None:
    console.print(f"\n[bold]==> {step}[/]")


def show_command(command: list[str]) -> None:
    console.print(f"[dim]$ latentry {' '.join(command[1:])}[/]")


def build_bundle() -> None:
    shutil.copy(HERE / "bundle.yaml", WORK / "bundle.yaml")
    command = latentry("bundle", "build", str(WORK / "bundle.yaml"), "-o", str(BUNDLE), "--force")
    show_command(command)
    subprocess.run(command, check=True)


@contextlib.contextmanager
def serving() -> Iterator[Served]:
    """`latentry up` as a user would run it; yields when the model is ready, interrupts it (Ctrl-C) at the end."""
    command = latentry("up", str(SAMPLE), "--output", "json")
    show_command(command[:-2])
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        yield _wait_ready(process)
    finally:
        process.send_signal(signal.SIGINT)
        code = process.wait(timeout=60)
    if code != 0:
        sys.exit(f"latentry up ended with exit code {code}")


def _wait_ready(process: "subprocess.Popen[str]") -> Served:
    assert process.stdout is not None
    for line in process.stdout:
        snapshot: dict[str, Any] = json.loads(line)
        console.print(f"  {snapshot['phase']}: {snapshot['message']}")
        if snapshot["phase"] == "Ready":
            return Served(**snapshot["addresses"])
    sys.exit("latentry up ended before the model was ready")


def reconstruct_over_grpc(served: Served, images: np.ndarray) -> np.ndarray:
    """Every held-out image through `reconstruct`, in batches of 24."""
    client = grpc_client.InferenceServerClient(served.grpc)
    return np.concatenate(
        [_infer(grpc_client, client, "reconstruct", batch, "reconstruction") for batch in _batches(images)]
    )


def score_over_http(served: Served, images: np.ndarray) -> np.ndarray:
    """Reconstruction error of every held-out image through `score`, nats, [n]."""
    client = http_client.InferenceServerClient(served.http)
    errors = [_infer(http_client, client, "score", batch, "reconstruction_error") for batch in _batches(images)]
    return np.concatenate(errors)[:, 0]


def encode_one_by_one(served: Served, images: np.ndarray) -> None:
    """Single-image `encode` calls over both protocols, so that the tap has latencies to show."""
    clients = ((grpc_client, served.grpc, "gRPC"), (http_client, served.http, "HTTP"))
    for module, address, name in clients:
        client = module.InferenceServerClient(address)
        for call in track(
            range(REQUESTS_PER_PROTOCOL), f"  {REQUESTS_PER_PROTOCOL} encode calls over {name}", console=console
        ):
            row = call % len(images)
            _infer(module, client, "encode", images[row : row + 1], "posterior_mean")


def send_a_wrong_one(served: Served, images: np.ndarray) -> str:
    """A call with the wrong shape: what the client is told."""
    client = http_client.InferenceServerClient(served.http)
    try:
        _infer(http_client, client, "encode", images[:1, :, :4], "posterior_mean")
    except Exception as error:  # noqa: BLE001 - the client library raises its own type per protocol; the text is what we show
        return str(error).split(" NOTE:")[0]
    return "accepted"


def _batches(images: np.ndarray, size: int = 24) -> list[np.ndarray]:
    return [images[start : start + size] for start in range(0, len(images), size)]


def _infer(module: Any, client: Any, operation: str, images: np.ndarray, output: str) -> np.ndarray:
    tensor = module.InferInput("image", list(images.shape), "FP32")
    tensor.set_data_from_numpy(images)
    result: np.ndarray = client.infer(f"digits-vae_{operation}", [tensor]).as_numpy(output)
    return result


def print_slis(served: Served) -> None:
    """What the tap measured, one row for each operation and protocol with traffic."""
    slis = Slis.model_validate_json(httpx.get(f"http://{served.admin}/slis").raise_for_status().content)
    table = Table("OPERATION", "VIA", title="measured by the tap", title_justify="left")
    for heading in ("OK", "REFUSED", "FAILED", "P50", "P90", "P99"):
        table.add_column(heading, justify="right")
    for row in slis.operations:
        outcomes, latency = row.total.outcomes, row.total.latency_seconds
        if row.total.requests and row.operation != MANAGEMENT_OPERATION:
            counts = (outcomes[Outcome.OK], outcomes[Outcome.CLIENT_ERROR], sum(outcomes[o] for o in SERVER_FAULTS))
            quantiles = (milliseconds(seconds) for seconds in (latency.p50, latency.p90, latency.p99))
            table.add_row(row.operation, row.protocol, *map(str, counts), *quantiles)
    console.print(table)


def main() -> None:
    WORK.mkdir(parents=True, exist_ok=True)
    say("1/4  train a VAE on scikit-learn's digits: 1437 images, 360 more held out")
    train.main(WORK)
    say("2/4  build a bundle: five operations as ONNX graphs, golden calls, digests")
    build_bundle()
    say("3/4  serve it on a real Triton, behind the tap")
    images = np.load(WORK / "heldout.npy")
    with serving() as served:
        say("4/4  send it the held-out digits, over gRPC and HTTP")
        reconstructions = reconstruct_over_grpc(served, images)
        errors = score_over_http(served, images)
        encode_one_by_one(served, images)
        refusal = send_a_wrong_one(served, images)
        sheet = contact_sheet(images[:20], reconstructions[:20], WORK / "contact-sheet.png")
        console.print(side_by_side(images[:4], reconstructions[:4]))
        console.print(f"  20 originals over their reconstructions: {sheet}")
        console.print(
            f"  reconstruction error of {len(errors)} held-out digits: "
            f"mean {errors.mean():.2f}, p95 {np.quantile(errors, 0.95):.2f} nats"
        )
        console.print(f"  a call with the wrong shape was refused: {refusal}")
        print_slis(served)
        console.print(f"  Prometheus scrapes http://{served.admin}/metrics")


if __name__ == "__main__":
    main()
