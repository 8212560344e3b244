"""A real Triton under faults: killed server, killed model process, killed parent, signals, taken ports, bad models.

After every one of them no process and no shared memory of that server is left.
"""

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest
import tritonclient.http as triton_http

from latentry_serving.contract.errors import OperationFailed
from latentry_serving.contract.manifest import BundleManifest
from latentry_serving.triton import supervisor
from latentry_serving.triton.backoff import Backoff
from latentry_serving.triton.diagnosis import PortTaken
from latentry_serving.triton.install import TritonInstall
from latentry_serving.triton.local_repository import write_local_repository
from latentry_serving.triton.process import TritonSettings, choose_addresses
from latentry_serving.triton.supervisor import Phase, ServerState, TritonServer

pytestmark = pytest.mark.triton

SERVE = """
import asyncio, os, signal, sys
from pathlib import Path
from latentry_serving.triton.install import find_triton
from latentry_serving.triton.supervisor import TritonServer

signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where the tests run in a shell's background

async def main():
    task = asyncio.current_task()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    async with TritonServer(find_triton(), Path(sys.argv[1]), Path(sys.argv[2])) as server:
        print(server.state.pid, flush=True)
        await asyncio.Event().wait()

try:
    asyncio.run(main())
except (asyncio.CancelledError, KeyboardInterrupt):
    sys.exit(7)
"""


def _of(repository: Path) -> list[psutil.Process]:
    """Processes that serve the repository: Triton and its stubs."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        command = " ".join(process.info["cmdline"] or [])
        if str(repository) in command and ("tritonserver" in command or "backend_stub" in command):
            found.append(process)
    return found


def _regions() -> set[str]:
    """Shared memory of servers that we started, or whose starter is gone; other programs' servers may live."""
    found = {path.name: int(path.name.split("-")[1]) for path in Path("/dev/shm").glob("latentry-[0-9]*-*")}
    return {name for name, starter in found.items() if starter == os.getpid() or not psutil.pid_exists(starter)}


def _until(condition: Callable[[], bool], seconds: float = 90) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


@pytest.fixture
def repository(
    tmp_path: Path, tiny_bundle: tuple[Path, BundleManifest], triton_install: TritonInstall
) -> Iterator[Path]:
    """A repository of its own; afterwards nothing that served it is left."""
    before = _regions()
    target = tmp_path / "repository"
    write_local_repository(*tiny_bundle, target, triton_install)
    yield target
    _until(lambda: not _of(target))
    assert _regions() <= before


async def _wait_for(states: list[ServerState], condition: Callable[[ServerState], bool]) -> None:
    async with asyncio.timeout(90):
        while not any(map(condition, states)):
            await asyncio.sleep(0.02)


def _encode(server: TritonServer) -> np.ndarray:
    given = triton_http.InferInput("x", (1, 4), "FP32")
    given.set_data_from_numpy(np.ones((1, 4), np.float32))
    with triton_http.InferenceServerClient(str(server.addresses.http)) as client:
        return client.infer("tiny_encode", [given]).as_numpy("embedding")


async def test_killed_server_and_killed_model_process_come_back(
    repository: Path, tmp_path: Path, triton_install: TritonInstall
) -> None:
    states: list[ServerState] = []
    server = TritonServer(
        triton_install, repository, tmp_path / "work", backoff=Backoff(first_seconds=0.1), observer=states.append
    )
    async with server:
        assert any(
            state.phase is Phase.STARTING and state.text.startswith("loading models") and state.models_total == 3
            for state in states
        )
        addresses = server.addresses

        os.kill(server.state.pid, signal.SIGKILL)
        await _wait_for(states, lambda state: state.phase is Phase.READY and state.restarts == 1)
        phases = [state.phase for state in states]
        broken = phases.index(Phase.BROKEN)
        assert (phases[broken - 1], phases[broken + 1]) == (Phase.READY, Phase.WAITING), "told before it is cleared up"
        waiting = next(state for state in states if state.phase is Phase.WAITING)
        assert "killed by SIGKILL" in waiting.text
        assert "starting again in 0.1 s" in waiting.text
        assert server.addresses == addresses
        np.testing.assert_array_equal(_encode(server), [[12, 16]])

        stub = next(process for process in _of(repository) if "backend_stub" in process.cmdline()[0])
        stub.kill()
        await _wait_for(states, lambda state: state.phase is Phase.READY and state.restarts == 2)
        assert any("lost a model process" in state.text for state in states)
        np.testing.assert_array_equal(_encode(server), [[12, 16]])
        assert len(_of(repository)) == 4
        assert "loading: tiny_encode" in (tmp_path / "work" / "triton.log").read_text()
    assert server.state.phase is Phase.STOPPED
    assert not _of(repository)


@pytest.mark.parametrize(
    ("sent", "exit_code"),
    [(signal.SIGKILL, -signal.SIGKILL), (signal.SIGTERM, 7), (signal.SIGINT, 7)],
)
def test_nothing_outlives_the_parent(repository: Path, tmp_path: Path, sent: signal.Signals, exit_code: int) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", SERVE, str(repository), str(tmp_path / "work")],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    os.killpg(parent.pid, sent)  # as a terminal does: the whole foreground group
    assert parent.wait(timeout=90) == exit_code
    _until(lambda: not psutil.pid_exists(pid))


def _crashing(install: TritonInstall, folder: Path, times: int) -> TritonInstall:
    """Aborts at its first starts, as Triton does when a model process gets no core for two seconds."""
    binary = folder / "tritonserver"
    binary.write_text(
        f"#!/bin/sh\necho >> {folder}/starts\n"
        f'[ "$(wc -l < {folder}/starts)" -gt {times} ] || kill -ABRT $$\nexec {install.binary} "$@"\n'
    )
    binary.chmod(0o755)
    return replace(install, binary=binary)


async def test_one_that_crashes_while_it_loads_is_started_again(
    repository: Path, tmp_path: Path, triton_install: TritonInstall
) -> None:
    states: list[ServerState] = []
    crashing = _crashing(triton_install, tmp_path, times=2)
    async with TritonServer(crashing, repository, tmp_path / "work", observer=states.append) as server:
        np.testing.assert_array_equal(_encode(server), [[12, 16]])
    assert [state.text for state in states].count("Triton was killed by SIGABRT; starting it again") == 2


async def test_one_that_crashes_whenever_it_loads_is_given_up(
    repository: Path, tmp_path: Path, triton_install: TritonInstall
) -> None:
    with pytest.raises(OperationFailed, match="Triton was killed by SIGABRT"):
        await TritonServer(_crashing(triton_install, tmp_path, times=9), repository, tmp_path / "work").start()
    assert len((tmp_path / "starts").read_text().splitlines()) == 3


async def test_cancelled_start_leaves_nothing(repository: Path, tmp_path: Path, triton_install: TritonInstall) -> None:
    states: list[ServerState] = []
    server = TritonServer(triton_install, repository, tmp_path / "work", observer=states.append)
    start = asyncio.create_task(server.start())
    await _wait_for(states, lambda state: "loading" in state.text)
    start.cancel()
    with pytest.raises(asyncio.CancelledError):
        await start
    assert not _of(repository)


async def test_a_given_port_in_use_is_named(repository: Path, tmp_path: Path, triton_install: TritonInstall) -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        server = TritonServer(triton_install, repository, tmp_path / "work", TritonSettings(grpc_port=port))
        with pytest.raises(PortTaken, match=f"127.0.0.1:{port} is in use by another process; .*another port"):
            await server.start()


@pytest.mark.parametrize("listener", ["grpc", "metrics"])
async def test_a_picked_port_lost_to_another_process_is_picked_again(
    listener: str, repository: Path, tmp_path: Path, triton_install: TritonInstall, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        lost = choose_addresses(TritonSettings())
        taken = getattr(lost, listener).model_copy(update={"port": holder.getsockname()[1]})
        lost = replace(lost, **{listener: taken})
        picked = iter([lost])
        monkeypatch.setattr(supervisor, "choose_addresses", lambda given: next(picked, None) or choose_addresses(given))
        async with TritonServer(triton_install, repository, tmp_path / "work") as server:
            assert getattr(server.addresses, listener) != taken
            np.testing.assert_array_equal(_encode(server), [[12, 16]])


async def test_a_graph_that_does_not_load_is_named(
    repository: Path, tmp_path: Path, triton_install: TritonInstall
) -> None:
    graph = repository / "tiny_sample" / "1" / "model.onnx"
    whole = graph.read_bytes()
    graph.unlink()
    graph.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(
        OperationFailed, match=r"could not load the model tiny_sample: Internal: .*(?i:protobuf)"
    ) as caught:
        await TritonServer(triton_install, repository, tmp_path / "work").start()
    assert "failed to load 'tiny_sample'" in caught.value.details


async def test_a_configuration_triton_refuses_is_named(
    repository: Path, tmp_path: Path, triton_install: TritonInstall
) -> None:
    (repository / "tiny_decode" / "config.pbtxt").write_text('name: "other" backend: "python"')
    with pytest.raises(OperationFailed, match="tiny_decode"):
        await TritonServer(triton_install, repository, tmp_path / "work").start()


async def test_missing_libpython_is_named_at_once(
    repository: Path, tmp_path: Path, triton_install: TritonInstall
) -> None:
    assert triton_install.python_backend is not None
    folder = tmp_path / "stub"
    folder.mkdir()
    stub = folder / "triton_python_backend_stub"  # copied away from the libraries its run path points to
    shutil.copy(triton_install.python_backend.stub, stub)
    broken = replace(triton_install, library_dirs=(), python_backend=replace(triton_install.python_backend, stub=stub))
    with pytest.raises(OperationFailed, match=r"shared library lib\S+ is missing"):
        await TritonServer(broken, repository, tmp_path / "work").start()


async def test_a_server_that_cannot_be_run_says_so(
    repository: Path, tmp_path: Path, triton_install: TritonInstall
) -> None:
    broken = replace(triton_install, binary=Path("/bin/false"))
    with pytest.raises(OperationFailed, match="Triton ended with exit code 1"):
        await TritonServer(broken, repository, tmp_path / "work").start()
