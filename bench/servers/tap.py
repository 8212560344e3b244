"""Latentry's tap in front of a running Triton, measuring as in service."""

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
from bench.load.payload import Protocol
from bench.servers.base import Endpoint, Serving, family_of, log_tail, running, wait_ready
from prometheus_client.parser import text_string_to_metric_families

from latentry_serving.contract.errors import OperationFailed
from latentry_serving.contract.manifest import BundleManifest
from latentry_serving.contract.metrics import OPAQUE_CONNECTIONS_TOTAL, OPERATION, OUTCOME, REQUESTS_TOTAL, Outcome
from latentry_serving.contract.operations import Operation
from latentry_serving.contract.tap_config import Address, Sampling, TapConfig

TAP = "Triton + tap"
_START_SECONDS = 20.0


@contextlib.asynccontextmanager
async def tap(
    serving: Serving,
    manifest: BundleManifest,
    triton: Endpoint,
    *,
    name: str = TAP,
    sampling: Sampling | None = None,
    bundle: Path | None = None,
) -> AsyncIterator[tuple[Endpoint, Address]]:
    """Runs a tap until the context ends; also gives the address of its admin API.

    Args:
        name: as printed; no other server of this run may have it.
        sampling: left out: none.
        bundle: whose profile samples are held against; left out: they are decoded, no more.
    """
    anywhere = Address(port=0)
    config = TapConfig(
        model=manifest.name, version=manifest.version, digest=manifest.digest,
        operations=manifest.operations_by_model,
        http=anywhere, grpc=anywhere, admin=anywhere,
        upstream_http=triton.http, upstream_grpc=triton.grpc, sampling=sampling or Sampling(),
        bundle_dir=None if bundle is None else str(bundle),
    )  # fmt: skip
    file = serving.work_dir / f"{name}.json"
    file.write_text(config.model_dump_json(by_alias=True))
    log = serving.work_dir / f"{name}.log"
    command = [sys.executable, "-m", "latentry_serving", "tap", "--config", file]
    async with running(command, log=log) as process:
        ports = await _ports(process, log)
        http, grpc = Address(port=ports["http"]), Address(port=ports["grpc"])
        await wait_ready(name, process, http, serving.model, log)
        endpoint = Endpoint(name, http, grpc, tuple(Protocol), family_of(process.pid))
        yield endpoint, Address(port=ports["admin"])


async def _ports(process: asyncio.subprocess.Process, log: Path) -> dict[str, int]:
    """What the tap chose: the JSON line it prints once it listens."""
    for _ in range(round(_START_SECONDS / 0.1)):
        for line in log.read_text().splitlines():
            if line.startswith('{"event": "listening"'):
                ports: dict[str, int] = json.loads(line)
                return ports
        if process.returncode is not None:
            break
        await asyncio.sleep(0.1)
    raise OperationFailed("the tap does not listen", remedy="see the end of its log below", details=log_tail(log))


async def observed_ok(admin: Address) -> tuple[int, int]:
    """What the tap says it saw: successful encode calls, and connections it could not follow."""
    async with httpx.AsyncClient(base_url=f"http://{admin}") as client:
        text = (await client.get("/metrics")).raise_for_status().text
    families = [sample for family in text_string_to_metric_families(text) for sample in family.samples]

    def total(name: str, labels: dict[str, str]) -> int:
        return int(sum(s.value for s in families if s.name == name and labels.items() <= s.labels.items()))

    ok = total(REQUESTS_TOTAL, {OPERATION: Operation.ENCODE.value, OUTCOME: Outcome.OK.value})
    return ok, total(OPAQUE_CONNECTIONS_TOTAL, {})
