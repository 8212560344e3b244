"""Closed-loop load from small C programs: wrk for HTTP/1.1, h2load for gRPC. Each connection keeps one call in flight.

Two cores carry the server and the load alike, so the generator must cost little: its share of the CPU is measured.
"""

import asyncio
import json
import re
import resource
import shutil
import statistics
import tempfile
from dataclasses import dataclass
from pathlib import Path

from bench.load.payload import CheckedCall, Protocol
from bench.servers.base import Endpoint

from latentry_serving.contract.errors import InvalidInput, OperationFailed, Problem

_WRK_SCRIPT = Path(__file__).with_name("post.lua")
_PACKAGES = {"wrk": "wrk", "h2load": "nghttp2-client"}
_H2LOAD_DONE = re.compile(r"(\d+) succeeded, 0 failed, 0 errored, 0 timeout")
_H2LOAD_DATA = re.compile(r"\((\d+)\) data")


@dataclass(frozen=True, slots=True)
class _Figures:
    requests: int
    seconds: float
    p50_ms: float
    p99_ms: float


@dataclass(frozen=True, slots=True)
class Load:
    """What one short run measured. Latency is from sending a request to its last response byte."""

    requests_per_second: float
    p50_ms: float
    p99_ms: float
    requests: int
    generator_cores: float
    """CPU seconds of the load generator per second."""


def require_generators() -> None:
    """
    Raises:
        InvalidInput: a load generator is not installed.
    """
    missing = [name for name in _PACKAGES if shutil.which(name) is None]
    if missing:
        command = f"run `apt-get install {' '.join(_PACKAGES[name] for name in missing)}`"
        raise InvalidInput(
            "benchmark", [Problem(path=name, problem="is not on PATH", remedy=command) for name in missing]
        )


async def put_load(
    endpoint: Endpoint, call: CheckedCall, *, connections: int, seconds: int, per_second: int | None = None
) -> Load:
    """Calls as fast as the connections allow, or at a pace, and returns what was measured.

    Args:
        endpoint: whom to call.
        call: the request, checked: its answer's size tells failed gRPC calls.
        connections: calls in flight, one per connection.
        seconds: how long; whole seconds, as wrk wants them.
        per_second: calls offered on all connections together, gRPC only; a connection whose call is late offers fewer.

    Raises:
        OperationFailed: a call failed, or no call was answered.
    """
    before = _children_cpu_seconds()
    with tempfile.TemporaryDirectory() as folder:
        body = Path(folder, "body")
        body.write_bytes(call.body)
        if call.protocol is Protocol.GRPC:
            pace = [] if per_second is None else [f"--rps={per_second / connections:g}"]
            run = await _h2load(endpoint, call, body, connections, seconds, pace)
        else:
            run = await _wrk(endpoint, call, body, connections, seconds)
    return Load(
        requests_per_second=run.requests / run.seconds,
        p50_ms=run.p50_ms,
        p99_ms=run.p99_ms,
        requests=run.requests,
        generator_cores=(_children_cpu_seconds() - before) / run.seconds,
    )


async def _wrk(endpoint: Endpoint, call: CheckedCall, body: Path, connections: int, seconds: int) -> _Figures:
    headers = [f"{name}: {value}" for name, value in call.headers.items()]
    output = await _output(
        "wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout=30s", "-s", str(_WRK_SCRIPT),
        f"http://{endpoint.http}{call.path}", "--", str(body), *headers,
    )  # fmt: skip
    figures = json.loads(output.strip().splitlines()[-1])
    if figures["bad_status"] or figures["broken"] or not figures["requests"]:
        raise _failed(endpoint, call, output)
    requests = int(figures["requests"])
    return _Figures(requests, figures["duration_us"] / 1e6, figures["p50_us"] / 1e3, figures["p99_us"] / 1e3)


async def _h2load(
    endpoint: Endpoint, call: CheckedCall, body: Path, connections: int, seconds: int, pace: list[str]
) -> _Figures:
    log = body.with_name("log")
    headers = [part for name, value in call.headers.items() for part in ("-H", f"{name}: {value}")]
    output = await _output(
        "h2load", "-t1", f"-c{connections}", "-m1", f"-D{seconds}", f"--log-file={log}", *pace,
        "-d", str(body), *headers, f"http://{endpoint.grpc}{call.path}",
    )  # fmt: skip
    done = _H2LOAD_DONE.search(output)
    received = _H2LOAD_DATA.search(output)
    if not done or not received or int(done[1]) == 0:
        raise _failed(endpoint, call, output)
    # h2load reads no grpc-status, but a failed call has no message. Beyond the messages of all calls counted, only
    # those of calls cut off at the end may be there.
    surplus = int(received[1]) - int(done[1]) * call.answer_bytes
    if not 0 <= surplus <= connections * call.answer_bytes:
        raise _failed(endpoint, call, output)
    latencies_us = sorted(int(line.split("\t")[2]) for line in log.read_text().splitlines())
    percentiles = statistics.quantiles(latencies_us, n=100, method="inclusive")
    return _Figures(int(done[1]), seconds, percentiles[49] / 1e3, percentiles[98] / 1e3)


def _failed(endpoint: Endpoint, call: CheckedCall, output: str) -> OperationFailed:
    return OperationFailed(
        f"{endpoint.server} failed calls over {call.protocol} under load",
        remedy="its log and the load generator's output below say how",
        details=output,
    )


async def _output(*command: str) -> str:
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    output = (await process.communicate())[0].decode(errors="replace")
    if process.returncode:
        raise OperationFailed(
            f"{command[0]} ended with exit code {process.returncode}", remedy="see its output", details=output
        )
    return output


def _children_cpu_seconds() -> float:
    """CPU time of all children that have ended: between two calls, the load generator alone ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime
