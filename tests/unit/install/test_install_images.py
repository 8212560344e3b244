"""The images, without a container engine: hadolint, and the Dockerfile's own steps carried out in folders.

Covered: style, pinned bases, no root, what is copied is not ignored; both targets are built from the wheel, hold what
they need and nothing heavy, their entry points start. Not covered: the base images themselves.
"""

import importlib.metadata
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[3]
TARGETS = ("tap", "operator")
pytestmark = pytest.mark.timeout(900)  # the first test waits for about 60 packages
HEAVY = ("torch", "kopf", "onnx", "onnxruntime")


@dataclass(frozen=True)
class Image:
    """What a container of an image starts, and the environment it starts in, as folders of this machine."""

    entrypoint: list[str]
    command: list[str]
    bin: Path

    def start(self, *arguments: str, env: dict[str, str] | None = None) -> subprocess.Popen[str]:
        """The entry point with these arguments, or with the image's own."""
        entrypoint = [str(self.bin / self.entrypoint[0]), *self.entrypoint[1:]]
        environment = {"PATH": str(self.bin), "PYTHONUNBUFFERED": "1", **(env or {})}
        return subprocess.Popen(
            [*entrypoint, *(arguments or self.command)],
            env=environment,
            cwd="/",
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def run(self, *arguments: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        process = self.start(*arguments, env=env)
        out, err = process.communicate(timeout=120)
        return subprocess.CompletedProcess(arguments, process.returncode, out, err)

    def python(self, code: str) -> subprocess.CompletedProcess[str]:
        """Code in the image's environment."""
        command = [self.bin / "python", "-I", "-c", code]
        return subprocess.run(
            command, check=False, capture_output=True, text=True, env={"PATH": str(self.bin)}, cwd="/"
        )


def instructions() -> dict[str, list[tuple[str, str]]]:
    """The Dockerfile: stage -> [(instruction, rest)], each stage with those of the stages that it starts from."""
    text = (ROOT / "Dockerfile").read_text().replace("\\\n", " ")
    stages: dict[str, list[tuple[str, str]]] = {}
    current: list[tuple[str, str]] = []
    for line in text.splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        word, rest = line.split(maxsplit=1)
        if word == "FROM":
            base, _, name = rest.partition(" AS ")
            current = stages[name] = list(stages.get(base, ()))
        current.append((word, rest))
    return stages


class Builder:
    """Carries out the steps of one target in a folder that stands for the root of its stages, which share no path."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._done: set[tuple[str, str]] = set()
        self._stages = instructions()

    def build(self, stage: str) -> Image:
        last: dict[str, str] = {}
        workdir = self._root
        for word, rest in self._stages[stage]:
            last[word] = rest
            if word == "WORKDIR":
                workdir = self._root / rest.lstrip("/")
                workdir.mkdir(parents=True, exist_ok=True)
            elif word == "COPY" and rest.startswith("--from="):
                self.build(rest.removeprefix("--from=").split()[0])
            elif (word, rest) not in self._done and word in ("COPY", "RUN"):
                self._copy(rest.split(), workdir) if word == "COPY" else self._shell(rest, workdir)
                self._done.add((word, rest))
        return Image(
            json.loads(last.get("ENTRYPOINT", "[]")), json.loads(last.get("CMD", "[]")), self._root / "opt/latentry/bin"
        )

    def _copy(self, words: list[str], workdir: Path) -> None:
        *sources, target = words
        folder = self._root / target.lstrip("/") if target.startswith("/") else workdir / target
        for source in sources:
            if (ROOT / source).is_dir():
                shutil.copytree(ROOT / source, folder, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
            else:
                folder.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / source, folder)

    def _shell(self, command: str, workdir: Path) -> None:
        here = re.sub(r"(?<![\w.])/(?=(wheels|opt/latentry)\b)", f"{self._root}/", command)
        # This machine keeps its downloads; bytecode would take most of the time.
        here = here.replace("--no-cache-dir", "--no-compile" if " install " in here else "")
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        done = subprocess.run(
            ["/bin/sh", "-c", here],
            check=False,
            capture_output=True,
            text=True,
            cwd=workdir,
            env=os.environ | {"PATH": path},
        )
        assert done.returncode == 0, f"RUN {command}\n{done.stdout[-2000:]}{done.stderr[-4000:]}"


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Image]:
    """Both targets, built side by side: most of the time is waiting for packages."""
    roots = [tmp_path_factory.mktemp(target) for target in TARGETS]
    with ThreadPoolExecutor() as pool:
        return dict(
            zip(TARGETS, pool.map(lambda root, target: Builder(root).build(target), roots, TARGETS), strict=True)
        )


@pytest.fixture
def tap(images: dict[str, Image]) -> Image:
    return images["tap"]


@pytest.fixture
def operator(images: dict[str, Image]) -> Image:
    return images["operator"]


@pytest.fixture(params=TARGETS)
def image(request: pytest.FixtureRequest, images: dict[str, Image]) -> Image:
    return images[request.param]


def test_hadolint_has_nothing_to_say(hadolint: Any) -> None:
    done = hadolint("--failure-threshold", "style", "Dockerfile")
    assert (done.returncode, done.stdout) == (0, "")


def test_bases_are_pinned() -> None:
    text = (ROOT / "Dockerfile").read_text()
    version = re.search(r"^ARG PYTHON_VERSION=(.*)$", text, re.MULTILINE)
    assert version is not None
    assert re.fullmatch(r"3\.1[123]\.\d+", version[1])
    bases = {line.split()[1] for line in text.splitlines() if line.startswith("FROM ")}
    assert bases - instructions().keys() == {"python:${PYTHON_VERSION}-slim-bookworm"}


@pytest.mark.parametrize("target", TARGETS)
def test_targets_run_as_a_number_that_is_not_root(target: str) -> None:
    users = [rest for word, rest in instructions()[target] if word == "USER"]
    assert users == ["65532:65532"]  # a name could not be checked by runAsNonRoot


def test_what_is_copied_is_not_ignored() -> None:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    allowed = [line[1:] for line in lines if line.startswith("!")]
    steps = {step for stage in instructions().values() for step in stage}
    sources = {
        source for word, rest in steps if word == "COPY" and "--from=" not in rest for source in rest.split()[:-1]
    }
    assert sources == set(allowed)
    assert "*" in lines


def test_packages_agree_and_nothing_heavy_is_there(image: Image) -> None:
    check = subprocess.run(
        [sys.executable, "-m", "pip", "--python", image.bin / "python", "check"],
        check=False,
        capture_output=True,
        text=True,
    )
    assert check.returncode == 0, check.stdout
    found = image.python(f"import importlib.util as u; print([n for n in {HEAVY} if u.find_spec(n)])")
    assert found.stdout == "[]\n", found.stderr
    versions = image.python("import importlib.metadata as m; print(m.version('latentry'), m.version('pydantic'))")
    assert versions.stdout.split() == [importlib.metadata.version("latentry"), importlib.metadata.version("pydantic")]


def test_no_image_has_the_others_packages(tap: Image, operator: Image) -> None:
    def has(image: Image, name: str) -> bool:
        return image.python(f"import {name}").returncode == 0

    # The tap reads config.pbtxt with tritonclient's protobuf.
    assert [has(image, "tritonclient") for image in (tap, operator)] == [True, False]

    assert [has(tap, name) for name in ("httptools", "kubernetes", "kserve")] == [True, False, False]
    assert [has(operator, name) for name in ("httptools", "kubernetes")] == [False, True]


def test_every_module_of_the_operator_can_be_imported(operator: Image) -> None:
    # local and the data plane's parts belong to other images and to developers' machines.
    code = """
import importlib, pkgutil, latentry_operator
for part in pkgutil.walk_packages(latentry_operator.__path__, "latentry_operator."):
    if not part.name.startswith(("latentry_operator.local", "latentry_operator.__main__")):
        importlib.import_module(part.name)
        print(part.name)
"""
    done = operator.python(code)
    assert done.returncode == 0, done.stderr
    assert "latentry_operator.kube.client" in done.stdout.split()


def test_tap_help(tap: Image) -> None:
    done = tap.run("--help")
    assert done.returncode == 0, done.stderr
    assert "--config" in done.stdout


def test_tap_without_its_file_says_so(tap: Image) -> None:
    done = tap.run()
    assert done.returncode == 2
    assert "/etc/latentry/tap.yaml: No such file or directory" in done.stderr


@pytest.fixture
def running_tap(tap: Image, tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], dict[str, int]]]:
    """The tap and the ports it chose."""
    anywhere = {"host": "127.0.0.1", "port": 0}
    config = tmp_path / "tap.yaml"
    config.write_text(yaml.safe_dump({"http": anywhere, "grpc": anywhere, "admin": anywhere}))
    process = tap.start("--config", str(config))
    try:
        assert process.stdout is not None
        first = process.stdout.readline()
        assert first, process.communicate()[1]
        yield process, json.loads(first)
    finally:
        process.kill()
        process.communicate()


def test_tap_starts_and_stops(running_tap: tuple[subprocess.Popen[str], dict[str, int]]) -> None:
    process, ports = running_tap
    admin = f"http://127.0.0.1:{ports['admin']}"
    with urllib.request.urlopen(f"{admin}/healthz", timeout=10) as answer:
        assert answer.status == 200
    with urllib.request.urlopen(f"{admin}/metrics", timeout=10) as answer:
        assert b"latentry_" in answer.read()
    with pytest.raises(urllib.error.HTTPError, match="503"):  # there is no Triton
        urllib.request.urlopen(f"{admin}/readyz", timeout=10)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=30) == 0


def test_operator_commands(operator: Image) -> None:
    helped = operator.run("--help")
    assert helped.returncode == 0, helped.stderr
    assert {"operator", "validate", "render", "diff"} <= set(helped.stdout.split())
    samples = sorted(str(path) for path in (ROOT / "manifests" / "samples").glob("*.yaml"))
    validated = operator.run("validate", *samples)
    assert validated.returncode == 0, validated.stderr
    assert validated.stdout.count(": ok, ") == len(samples)


def test_the_operator_starts_as_the_chart_starts_it(operator: Image, objects: Any, tmp_path: Path) -> None:
    rendered = objects(None)
    (container,) = next(one for one in rendered if one["kind"] == "Deployment")["spec"]["template"]["spec"][
        "containers"
    ]
    (settings,) = (one["data"]["operator.yaml"] for one in rendered if one["kind"] == "ConfigMap")
    (tmp_path / "operator.yaml").write_text(settings)
    arguments = [word.replace("/etc/latentry", str(tmp_path)) for word in container["args"]]
    assert arguments[: len(operator.command)] == operator.command
    done = operator.run(*arguments, env={"KUBECONFIG": str(tmp_path / "none"), "HOME": str(tmp_path)})
    assert done.returncode == 2
    assert "name a kubeconfig file" in done.stderr
    assert "Traceback" not in done.stderr
