"""The pure parts around the process: back-off, log reading, diagnosis, shared memory, ports, environment, launcher."""

import os
import signal
import socket
import subprocess
import sys
from collections import deque
from pathlib import Path

import pytest

from latentry_serving.child import bound_to_parent
from latentry_serving.triton import process
from latentry_serving.triton.backoff import Backoff
from latentry_serving.triton.diagnosis import PortTaken, diagnose, oom_kill_count
from latentry_serving.triton.install import PythonBackend, TritonInstall
from latentry_serving.triton.process import TritonSettings, choose_addresses
from latentry_serving.triton.server_log import ServerLog, open_log_file, write_line
from latentry_serving.triton.shared_memory import new_prefix, remove_orphans, remove_regions


def _log(*lines: str) -> ServerLog:
    log = ServerLog(lines=deque(maxlen=100))
    for line in lines:
        log.add(line)
    return log


def test_waits_double_up_to_the_cap() -> None:
    backoff = Backoff(first_seconds=0.5, most_seconds=5)
    assert [backoff.delay_seconds(n) for n in range(1, 7)] == [0.5, 1, 2, 4, 5, 5]
    assert backoff.delay_seconds(100_000) == 5


def test_a_long_run_starts_the_count_afresh() -> None:
    backoff = Backoff(healthy_after_seconds=60)
    assert backoff.failures(4, ran_seconds=59.9) == 5
    assert backoff.failures(4, ran_seconds=60) == 1


def test_progress_is_read_from_the_log() -> None:
    log = _log(
        'I1121 04:56:41.242000 1 model_lifecycle.cc:472] "loading: a_encode:1"',
        'I1121 04:56:41.242100 1 model_lifecycle.cc:472] "loading: a_score:1"',
        "I1121 04:56:43.081540 1 model_lifecycle.cc:839] \"successfully loaded 'a_encode'\"",
    )
    assert (log.loading, log.loaded) == ({"a_encode", "a_score"}, {"a_encode"})


def test_the_tail_leaves_out_tables_and_countdowns() -> None:
    log = _log(
        "I1121 05:06:43.302289 1 server.cc:604] ",
        "+-----+",
        "| Model |",
        "",
        'E1121 05:06:43.302192 1 model_lifecycle.cc:642] "something broke"',
        'I1121 05:06:43.302653 1 server.cc:321] "Timeout 30: Found 0 model versions that have in-flight inferences"',
        "error: creating server: Internal - failed to load all models",
    )
    assert log.tail(5).splitlines() == [
        'E1121 05:06:43.302192 1 model_lifecycle.cc:642] "something broke"',
        "error: creating server: Internal - failed to load all models",
    ]


def test_memory_and_file_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("latentry_serving.triton.server_log.FILE_BYTES", 1000)
    handler = open_log_file(tmp_path / "triton.log")
    log = ServerLog(lines=deque(maxlen=3))
    for n in range(500):
        log.add(f"line {n}")
        write_line(handler, f"line {n}")
    handler.close()
    assert list(log.lines) == ["line 497", "line 498", "line 499"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["triton.log", "triton.log.1"]
    assert all(path.stat().st_size <= 1000 for path in tmp_path.iterdir())
    assert (tmp_path / "triton.log").read_text().endswith("line 499\n")


@pytest.mark.parametrize(
    ("exit_code", "lines", "oom_kills", "said"),
    [
        (
            1,
            [r"""E1 1 x.cc:642] "failed to load 'm' version 1: Internal: InvalidProtobuf: cut short\n\nAt:\n  x" """],
            0,
            "could not load the model m: Internal: InvalidProtobuf: cut short;",
        ),
        (
            1,
            ["""E1 1 x.cc:1] "Poll failed for model directory 'm': expected name" """],
            0,
            "could not load the model m: expected name;",
        ),
        (
            1,
            ["""E1 main.cc:245] "failed to start HTTP service: Socket '127.0.0.1:8000' already in use " """],
            0,
            "127.0.0.1:8000 is in use by another process; stop that process, or give Triton another port",
        ),
        (
            127,
            ["stub: error while loading shared libraries: libpython3.12.so.1.0: cannot open shared object file"],
            0,
            "the shared library libpython3.12.so.1.0 is missing",
        ),
        (1, ["terminate called after throwing std::bad_alloc"], 0, "ran out of memory (terminate called after"),
        (
            1,
            ["""E1 1 x.cc:642] "failed to load 'm' version 1: Internal: Stub process 'm_0' is not healthy." """],
            1,
            "ran out of memory (the kernel killed 1 process",
        ),
        (
            1,
            ["""E1 1 x.cc:1] "failed to load 'm' version 1: Internal: cut" """],
            1,
            "could not load the model m: Internal",
        ),
        (-9, [], 1, "ran out of memory (the kernel killed 1 process for lack of memory meanwhile)"),
        (-9, [], 0, "was killed by SIGKILL; the kernel does this when memory runs out"),
        (137, [], 0, "was killed by SIGKILL"),
        (-11, [], 0, "Triton was killed by SIGSEGV;"),
        (1, ["Failed to increase the shared memory pool size for key 'k': No space left on device"], 0, "/dev/shm"),
        (3, [], 0, "Triton ended with exit code 3"),
        (None, [], 0, "does not become ready"),
    ],
)
def test_diagnosis(exit_code: int | None, lines: list[str], oom_kills: int, said: str) -> None:
    error = diagnose(exit_code, _log(*lines), oom_kills=oom_kills)
    assert said in str(error)
    for line in lines:
        assert line in error.details


def test_a_taken_port_has_its_own_type() -> None:
    line = "Unavailable - Socket '127.0.0.1:8000' already in use"
    assert isinstance(diagnose(1, _log(line)), PortTaken)


def test_oom_kills_are_counted_by_the_kernel(tmp_path: Path) -> None:
    (tmp_path / "vmstat").write_text("nr_free_pages 5\noom_kill 3\nswap_ra 0\n")
    assert oom_kill_count(tmp_path / "vmstat") == 3
    assert oom_kill_count(tmp_path / "missing") == 0


def test_only_own_and_orphaned_regions_are_removed(tmp_path: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    mine, other = new_prefix(), new_prefix()
    orphan = f"latentry-{ended.pid}-0123abcd-x"
    for name in (f"{mine}a", f"{mine}b", f"{other}a", orphan, "latentry-notes", "triton_python_backend_shm_region_1"):
        (tmp_path / name).touch()
    assert remove_orphans(tmp_path) == 1
    assert remove_regions(mine, tmp_path) == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        [f"{other}a", "latentry-notes", "triton_python_backend_shm_region_1"]
    )


def test_free_ports_are_distinct_and_given_ones_kept() -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        free = probe.getsockname()[1]
    addresses = choose_addresses(TritonSettings(http_port=free))
    ports = [addresses.http.port, addresses.grpc.port, addresses.metrics.port]
    assert ports[0] == free
    assert len(set(ports)) == 3
    assert {addresses.http.host, addresses.grpc.host, addresses.metrics.host} == {"127.0.0.1"}


def test_a_given_port_in_use_is_refused() -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        with pytest.raises(PortTaken, match=f"127.0.0.1:{port} is in use"):
            choose_addresses(TritonSettings(metrics_port=port))


def test_the_stub_finds_our_packages_and_libraries() -> None:
    install = TritonInstall(
        binary=Path("/t/bin/tritonserver"),
        backend_dir=Path("/t/backends"),
        library_dirs=(Path("/t/libs"),),
        python_backend=PythonBackend(
            directory=Path("/t/p"),
            stub=Path("/t/s"),
            libpython_dir=Path("/py/lib"),
            interpreter=Path("/venv/bin/python"),
        ),
    )
    environment = process._environment(install, {"PATH": "/usr/bin", "LD_LIBRARY_PATH": "/mine", "HOME": "/h"})
    assert environment == {"PATH": "/venv/bin:/usr/bin", "LD_LIBRARY_PATH": "/t/libs:/py/lib:/mine", "HOME": "/h"}


def _launch(parent: int, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(bound_to_parent(command, parent), capture_output=True, text=True, timeout=60, check=False)


def test_the_launcher_becomes_the_program_with_the_death_signal_set() -> None:
    program = "import ctypes; n = ctypes.c_int(); ctypes.CDLL(None).prctl(2, ctypes.byref(n)); print(n.value)"
    done = _launch(os.getpid(), sys.executable, "-c", program)
    assert int(done.stdout) == signal.SIGTERM  # 2 is PR_GET_PDEATHSIG


def test_the_launcher_does_not_start_without_its_parent() -> None:
    done = _launch(os.getpid() + 1, sys.executable, "-c", "print('started')")
    assert (done.returncode, done.stdout) == (1, "")
