"""Rows of `bench.tap`, what they are to reach, and their table in docs/benchmarks.md."""

import re
import statistics
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench import report
from bench.load.payload import Protocol
from bench.measure import Row
from bench.servers.proxies import find_proxy
from rich import box
from rich.table import Table

RESULTS = report.RESULTS.with_name("tap.json")
_PROTOCOLS = {Protocol.BINARY: "http", Protocol.GRPC: "grpc"}
_COLUMNS = (
    "protocol", "payload", "in flight", "path", "calls/s", "share of direct", "added p50 us", "p99 of direct", "cores",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class TapRow:
    """One path in one case. Ratios and differences are medians over the rounds, each against direct in its round."""

    path: str
    protocol: str
    payload_bytes: int
    """Of the request's one tensor; the answer's has 64 bytes."""
    in_flight: int
    sampling_rate: float | str
    """Share of the calls; ``50/s``: the token bucket's limit."""
    throughput_ratio: float
    throughput_ratio_least: float
    throughput_ratio_most: float
    p50_added_us: float
    p99_ratio: float
    calls_per_second: float
    p50_us: float
    p99_us: float
    cores: float
    """CPU of the path's own process."""

    @classmethod
    def of(cls, row: Row, payload_bytes: int, path: str, sampling_rate: float | str) -> "TapRow":
        pairs = [(run.load, direct.load) for run, direct in zip(row.runs, row.direct, strict=True)]
        return cls(
            path=path,
            protocol=_PROTOCOLS[row.protocol],
            payload_bytes=payload_bytes,
            in_flight=row.connections,
            sampling_rate=sampling_rate,
            throughput_ratio=round(statistics.median(row.ratios), 3),
            throughput_ratio_least=round(min(row.ratios), 3),
            throughput_ratio_most=round(max(row.ratios), 3),
            p50_added_us=round(statistics.median((a.p50_ms - b.p50_ms) * 1e3 for a, b in pairs), 1),
            p99_ratio=round(statistics.median(a.p99_ms / b.p99_ms for a, b in pairs), 3),
            calls_per_second=round(row.median(lambda run: run.load.requests_per_second), 1),
            p50_us=round(row.median(lambda run: run.load.p50_ms) * 1e3, 1),
            p99_us=round(row.median(lambda run: run.load.p99_ms) * 1e3, 1),
            cores=round(row.median(lambda run: run.server_cores), 2),
        )

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def proxy_versions() -> dict[str, str]:
    """Versions of what the tap is compared with."""
    versions = {}
    for name, pattern in (("nginx", r"nginx/([\d.]+)"), ("haproxy", r"version ([\d.]+)")):
        output = subprocess.run([find_proxy(name) or name, "-v"], capture_output=True, text=True, check=True)
        found = re.search(pattern, output.stdout + output.stderr)
        versions[name] = found[1] if found else "unknown"
    return versions


def targets(rows: Sequence[TapRow]) -> list[dict[str, Any]]:
    """What the project set itself, per protocol: value, target and whether it was reached in this run."""
    result = []
    for protocol in _PROTOCOLS.values():
        of_protocol = [row for row in rows if row.protocol == protocol]

        def at(payload: int, in_flight: int, rows: Sequence[TapRow] = of_protocol) -> dict[tuple[str, Any], TapRow]:
            return {
                (row.path, row.sampling_rate): row
                for row in rows
                if row.payload_bytes == payload and row.in_flight == in_flight
            }

        small, alone = at(1 << 10, 8), at(1 << 10, 1)
        tap = small["tap", 0.0]
        large = [at(1 << 22, in_flight)["tap", 0.0].throughput_ratio for in_flight in (1, 8, 64)]

        def add(what: str, value: float, target: float, reached: bool, protocol: str = protocol) -> None:
            result.append({"protocol": protocol, "what": what, "value": value, "target": target, "reached": reached})

        add("throughput, 1 KB, 8 in flight", tap.throughput_ratio, 0.95, tap.throughput_ratio >= 0.95)
        added = alone["tap", 0.0].p50_added_us
        add("added p50 in us, 1 KB, 1 in flight", added, 50, added <= 50)
        add("p99 of direct, 1 KB, 8 in flight", tap.p99_ratio, 1.15, tap.p99_ratio <= 1.15)
        for other in ("nginx", "haproxy"):
            theirs = small[other, 0.0].throughput_ratio
            add(
                f"throughput against {other}, 1 KB, 8 in flight",
                tap.throughput_ratio,
                theirs,
                tap.throughput_ratio > theirs,
            )
        add("throughput, 4 MB, worst", min(large), 0.9, min(large) >= 0.9)
        sampled = round(small["tap", "50/s"].throughput_ratio / tap.throughput_ratio, 3)
        add("throughput with 50 samples/s over none, 1 KB, 8 in flight", sampled, 0.98, sampled >= 0.98)
    return result


def line(target: Mapping[str, Any]) -> str:
    """One target as text."""
    verdict = "reached" if target["reached"] else "missed"
    return f"{target['protocol']}: {target['what']}: {target['value']:g} (target {target['target']:g}, {verdict})"


def _size(payload_bytes: int) -> str:
    return f"{payload_bytes >> 20} MB" if payload_bytes >= 1 << 20 else f"{payload_bytes >> 10} KB"


def _path(row: Mapping[str, Any]) -> str:
    rate = row["sampling_rate"]
    return f"{row['path']}, {rate if isinstance(rate, str) else f'{rate:.0%}'} sampled" if rate else row["path"]


def _cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    direct = row["path"] == "direct"
    share = f"{row['throughput_ratio']:.2f} [{row['throughput_ratio_least']:.2f}, {row['throughput_ratio_most']:.2f}]"
    return (
        row["protocol"], _size(row["payload_bytes"]), str(row["in_flight"]), _path(row),
        f"{row['calls_per_second']:,.0f}",
        "1" if direct else share,
        f"p50 {row['p50_us']:,.0f}" if direct else f"{row['p50_added_us']:,.0f}",
        f"p99 {row['p99_us']:,.0f} us" if direct else f"{row['p99_ratio']:.2f}",
        f"{row['cores']:.2f}",
    )  # fmt: skip


def table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """All rows for a terminal."""
    result = Table(*_COLUMNS, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for row in rows:
        if row["path"] == "direct":
            result.add_section()
        result.add_row(*_cells(row))
    return result


def render(results: Mapping[str, Any], document: Path = report.DOCUMENT) -> None:
    """Writes targets and rows into the document.

    Raises:
        InvalidInput: the document lacks its markers.
    """
    facts = ", ".join(f"{name} {value}" for name, value in results["machine"].items())
    lines = [
        f"{results['rounds']} runs of {results['seconds']} s per case (4 MB: one or two runs less, but 2 to 8 times as "
        f"long); share of direct: median [least, most]. {facts}.",
        "",
        *(f"- {line(target)}" for target in results["targets"]),
        "",
        _bar(_COLUMNS),
        f"|{'|'.join(['---'] * 4 + ['---:'] * 5)}|",
        *(_bar(_cells(row)) for row in results["rows"]),
    ]
    report.write_section(document, "tap figures", "\n".join(lines))


def _bar(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
