"""Measures every server in short alternating runs, so that a slow moment of the machine hits all of them alike.

For each protocol and number of connections: ``rounds`` times each server once, in an order that turns round every
time. A server's figures are medians over its runs; a ratio is the median of the ratios within each round.
"""

import statistics
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import psutil
from bench.load.generator import Load, put_load
from bench.load.payload import CheckedCall, Protocol
from bench.servers.base import Endpoint

CONNECTIONS = (1, 8, 32)


@dataclass(frozen=True, slots=True)
class Run:
    """One short run of one server."""

    load: Load
    server_cores: float
    """CPU seconds of the server's own processes per second."""
    memory_mb: float
    """Resident memory of those processes at the end of the run, 1 MB = 10^6 bytes."""


@dataclass(frozen=True, slots=True)
class Row:
    """All runs of one server in one case."""

    server: str
    protocol: Protocol
    connections: int
    runs: tuple[Run, ...]
    direct: tuple[Run, ...]
    """Direct Triton's runs in the same case."""

    @property
    def ratios(self) -> list[float]:
        """Throughput as a share of direct Triton's, round by round."""
        return _ratios(self.runs, self.direct)

    def throughput_over(self, other: "Row") -> list[float]:
        """Throughput as a multiple of another server's in the same case, round by round."""
        return _ratios(self.runs, other.runs)

    def median(self, figure: Callable[[Run], float]) -> float:
        return statistics.median(map(figure, self.runs))

    def as_dict(self) -> dict[str, object]:
        """For the results file: medians, and the ratio's least, median and largest value."""
        return {
            "server": self.server,
            "protocol": self.protocol.value,
            "connections": self.connections,
            "runs": len(self.runs),
            "requests": sum(run.load.requests for run in self.runs),
            "requests_per_second": round(self.median(lambda run: run.load.requests_per_second), 1),
            "p50_ms": round(self.median(lambda run: run.load.p50_ms), 3),
            "p99_ms": round(self.median(lambda run: run.load.p99_ms), 3),
            "ratio_to_direct": round(statistics.median(self.ratios), 3),
            "ratio_to_direct_least": round(min(self.ratios), 3),
            "ratio_to_direct_most": round(max(self.ratios), 3),
            "server_cores": round(self.median(lambda run: run.server_cores), 2),
            "generator_cores": round(self.median(lambda run: run.load.generator_cores), 2),
            "memory_mb_most": round(max(run.memory_mb for run in self.runs), 1),
        }


async def measure_case(
    calls: Mapping[Endpoint, CheckedCall], *, connections: int, rounds: int, seconds: int, step: Callable[[str], None]
) -> list[Row]:
    """One protocol and number of connections, all servers.

    Args:
        calls: what to send to each server; the first one is what the others are compared with.
        connections: calls in flight.
        rounds: runs of each server.
        seconds: length of a run.
        step: called before each run with the server's name.

    Raises:
        OperationFailed: a call failed.
    """
    runs: dict[Endpoint, list[Run]] = defaultdict(list)
    order: Sequence[Endpoint] = list(calls)
    for _ in range(rounds):
        for endpoint in order:
            step(endpoint.server)
            runs[endpoint].append(await _run(endpoint, calls[endpoint], connections, seconds))
        order = order[::-1]
    direct = tuple(runs[next(iter(calls))])
    return [Row(one.server, call.protocol, connections, tuple(runs[one]), direct) for one, call in calls.items()]


def _ratios(runs: Sequence[Run], others: Sequence[Run]) -> list[float]:
    return [
        run.load.requests_per_second / other.load.requests_per_second for run, other in zip(runs, others, strict=True)
    ]


async def _run(endpoint: Endpoint, call: CheckedCall, connections: int, seconds: int) -> Run:
    processes = [psutil.Process(pid) for pid in endpoint.pids]
    before = _cpu_seconds(processes)
    load = await put_load(endpoint, call, connections=connections, seconds=seconds)
    return Run(
        load,
        server_cores=(_cpu_seconds(processes) - before) / seconds,
        memory_mb=sum(process.memory_info().rss for process in processes) / 1e6,
    )


def _cpu_seconds(processes: Sequence[psutil.Process]) -> float:
    return sum(times.user + times.system for times in (process.cpu_times() for process in processes))
