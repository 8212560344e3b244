"""The page of `latentry up` in a real browser, over two models with a real Triton and a real tap each. Covered: it
lists both and follows the chosen one through itself alone, a model whose tap hangs shows as restarting while the other
goes on, a tap that is killed and started again is found again."""

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import psutil
import pytest
from playwright.sync_api import expect
from ports import free_port

pytestmark = pytest.mark.triton

LATENTRY = Path(sys.executable).parent / "latentry"
CALL = {"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [8, 0, 0, 8]}]}


class Up:
    """`latentry up --output json`, with every model ready."""

    def __init__(self, folder: Path, files: list[str], ports: list[str]) -> None:
        self.process = subprocess.Popen(
            [str(LATENTRY), "up", *files, "--output", "json", *ports],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=folder,
        )  # fmt: skip
        self.models: dict[str, dict[str, Any]] = {}
        for line in self.process.stdout:
            snapshot = json.loads(line)
            if snapshot["phase"] == "Ready":
                self.models[snapshot["name"]] = snapshot
            if len(self.models) == len(files):
                break

    @property
    def page(self) -> str:
        """The page's address."""
        address: str = self.models["one"]["addresses"]["page"].partition("#")[0]
        return address

    def call(self, model: str) -> None:
        url = f"http://{self.models[model]['addresses']['http']}/v2/models/tiny_encode/infer"
        httpx.post(url, json=CALL, timeout=30).raise_for_status()

    def tap(self, model: str) -> psutil.Process:
        for child in psutil.Process(self.process.pid).children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):  # it ended meanwhile
                words = child.cmdline()
                if "tap" in words and any(f"run/{model}/" in word for word in words):
                    return child
        raise AssertionError(f"{model} has no tap")


@pytest.fixture
def up(tmp_path: Path, profiled_encoder: Path) -> Iterator[Up]:
    for name in ("one", "two"):
        (tmp_path / f"{name}.yaml").write_text(
            f"apiVersion: latentry.dev/v1alpha1\nkind: LatentModel\nmetadata: {{name: {name}}}\n"
            f"spec:\n  family: Encoder\n  bundle: {{uri: 'file://{profiled_encoder}'}}\n"
        )
    names = ("--http-port", "--grpc-port", "--admin-port", "--page-port")
    running = Up(tmp_path, ["one.yaml", "two.yaml"], [word for name in names for word in (name, str(free_port()))])
    yield running
    running.process.kill()
    running.process.communicate(timeout=60)


def test_two_models_on_one_page_one_of_them_restarting(up: Up, visitor) -> None:
    up.call("one")
    page = visitor.open(up.page)
    table = page.locator("#models tbody tr")
    expect(table).to_have_count(2)
    expect(page.locator("h1")).to_have_text("one")
    expect(page.locator("#tile-rate-sub")).to_have_text("1 since the start")
    expect(page.locator("#rollout-detail")).to_have_text("No rollout is under way: version 7 takes all traffic.")
    page.get_by_role("link", name="two").click()
    expect(page.locator("h1")).to_have_text("two")
    expect(page.locator("#tile-rate-sub")).to_have_text("0 since the start")
    for _ in range(3):
        up.call("two")
    expect(page.locator("#tile-rate-sub")).to_have_text("3 since the start")
    expect(page.locator("#bundle-state")).to_have_text("verified")
    assert visitor.errors == []
    assert {urlsplit(url).netloc for url in visitor.requests} == {urlsplit(up.page).netloc}

    tap = up.tap("two")
    tap.suspend()
    expect(page.locator("#phase")).to_have_text("Restarting")
    expect(page.locator("#attention-list")).to_contain_text("Restarting: the tap does not answer")
    expect(table.first).to_contain_text("Ready")
    tap.resume()
    expect(page.locator("#phase")).to_have_text("Ready")
    expect(page.locator("#tile-rate-sub")).to_have_text("3 since the start")
    tap.kill()
    expect(page.locator("#tile-rate-sub")).to_have_text("0 since the start")
    expect(page.locator("#phase")).to_have_text("Ready")
    assert page.locator("#lost").is_hidden(), "up itself was there all the time"
    assert all("502" in error for error in visitor.errors), visitor.errors
