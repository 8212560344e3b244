"""One LatentModel on this machine: Triton and the tap as processes, watched through the tap's own admin API."""

import asyncio
import contextlib
import logging
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx

from latentry_operator.local.snapshot import Addresses, Phase, Snapshot, Traffic
from latentry_operator.local.tap_process import TapProcess
from latentry_operator.plan.types import Plan
from latentry_serving.contract.bundle_report import BundleReport
from latentry_serving.contract.errors import OperationFailed
from latentry_serving.contract.manifest import BundleManifest
from latentry_serving.contract.metrics import SERVER_FAULTS, BundleState
from latentry_serving.contract.slis import Slis
from latentry_serving.contract.tap_config import Address
from latentry_serving.contract.triton_traces import TraceExport
from latentry_serving.triton.install import TritonInstall
from latentry_serving.triton.local_repository import RuntimeOverrides, write_local_repository
from latentry_serving.triton.process import TritonSettings
from latentry_serving.triton.supervisor import Phase as TritonPhase
from latentry_serving.triton.supervisor import ServerState, TritonServer

POLL_SECONDS = 0.5
"""How often the tap is asked for its readiness and its numbers."""
DRAIN_SECONDS = 5.0
"""On one machine nobody waits long for Ctrl-C."""
READY_AFTER_START_SECONDS = 30.0
"""From a tap that has checked the bundle's files, however large they are, to one whose probes passed."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LocalPlan:
    """A plan with what one machine adds: the unpacked bundle, ports and a folder.

    Attributes:
        plan: what to run.
        bundle_dir: the unpacked bundle; only read.
        manifest: its manifest.
        http, grpc, admin: where the tap listens.
        page: URL of this model on the page.
        run_dir: a folder of this model's own for logs and generated files; removed after a clean stop.
        triton_traces: where Triton's own spans go, None for nowhere.
    """

    plan: Plan
    bundle_dir: Path
    manifest: BundleManifest
    http: Address
    grpc: Address
    admin: Address
    page: str
    run_dir: Path
    triton_traces: TraceExport | None = None


class LocalModel:
    """Runs one plan until cancelled and knows at any time how it stands."""

    def __init__(self, local: LocalPlan, install: TritonInstall, changed: Callable[[], None]) -> None:
        self._local = local
        self._install = install
        self._changed = changed
        self.snapshot = Snapshot(
            name=local.plan.model,
            version=local.plan.version,
            phase=Phase.STARTING,
            message="preparing",
            addresses=Addresses(http=str(local.http), grpc=str(local.grpc), admin=str(local.admin), page=local.page),
        )
        self.failure: OperationFailed | None = None

    async def run(self) -> None:
        """Starts everything and watches it until cancelled. A model that cannot start ends here, with ``failure``."""
        try:
            await self._serve()
        except OperationFailed as error:
            self.failure = error
            self._update(phase=Phase.FAILED, message=f"{error.problem}; {error.remedy}")
        except asyncio.CancelledError:
            self._update(phase=Phase.STOPPED, message="stopped")
            if not self.snapshot.interruptions:
                shutil.rmtree(self._local.run_dir, ignore_errors=True)
            raise

    async def _serve(self) -> None:
        local = self._local
        local.run_dir.mkdir(parents=True, exist_ok=True)
        repository = local.run_dir / "repository"
        write_local_repository(local.bundle_dir, local.manifest, repository, self._install, overrides(local.plan))
        settings = TritonSettings(traces=local.triton_traces)
        server = TritonServer(self._install, repository, local.run_dir / "triton", settings, observer=self._on_triton)
        async with server:
            config = local.plan.tap.model_copy(
                update={
                    "http": local.http,
                    "grpc": local.grpc,
                    "admin": local.admin,
                    "upstream_http": server.addresses.http,
                    "upstream_grpc": server.addresses.grpc,
                    "upstream_metrics": server.addresses.metrics,
                    "bundle_dir": str(local.bundle_dir.absolute()),
                    "drain_seconds": DRAIN_SECONDS,
                }
            )
            self._update(message="starting the tap")
            async with TapProcess(config, local.run_dir, report=self._on_trouble), httpx.AsyncClient() as client:
                await self._first_ready(client)
                while True:
                    await asyncio.sleep(POLL_SECONDS)
                    await self._poll(client)

    async def _first_ready(self, client: httpx.AsyncClient) -> None:
        loop, reason = asyncio.get_running_loop(), ""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(READY_AFTER_START_SECONDS) as patience:
                while reason := await self._not_ready(client):
                    self._update(message=reason)
                    if await self._checks_files(client):
                        patience.reschedule(loop.time() + READY_AFTER_START_SECONDS)
                    await asyncio.sleep(POLL_SECONDS / 5)
        if reason:
            raise OperationFailed(
                f"the tap is not ready after {READY_AFTER_START_SECONDS:g} s: {reason}",
                remedy=f"see the logs in {self._local.run_dir}",
            )
        await self._poll(client)

    async def _poll(self, client: httpx.AsyncClient) -> None:
        if reason := await self._not_ready(client):
            if self.snapshot.phase is Phase.READY:
                self._update(interruptions=self.snapshot.interruptions + 1)
            self._update(phase=Phase.RESTARTING, message=reason)
            return
        self._update(phase=Phase.READY, was_ready=True, message=self._serving(), traffic=await self._traffic(client))

    async def _not_ready(self, client: httpx.AsyncClient) -> str:
        """Why clients cannot be served; empty when they can."""
        try:
            answer = await client.get(f"http://{self._local.admin}/readyz")
        except httpx.HTTPError as error:
            return f"the tap does not answer ({type(error).__name__})"
        return "" if answer.is_success else f"not ready: {', '.join(answer.json()['reasons'])}"

    async def _checks_files(self, client: httpx.AsyncClient) -> bool:
        try:
            answer = (await client.get(f"http://{self._local.admin}/bundle")).raise_for_status()
        except httpx.HTTPError:  # it does not answer: _not_ready says so
            return False
        return BundleReport.model_validate_json(answer.content).state is BundleState.CHECKING

    async def _traffic(self, client: httpx.AsyncClient) -> Traffic | None:
        try:
            answer = (await client.get(f"http://{self._local.admin}/slis")).raise_for_status()
        except httpx.HTTPError as error:
            _log.warning("no SLIs from the tap of %s: %s", self.snapshot.name, error)
            return self.snapshot.traffic
        return traffic(Slis.model_validate_json(answer.content))

    def _serving(self) -> str:
        local = self._local
        return f"HTTP {local.http}  gRPC {local.grpc}  metrics http://{local.admin}/metrics  page {local.page}"

    def _on_triton(self, state: ServerState) -> None:
        if state.phase is TritonPhase.STARTING and self.snapshot.phase is not Phase.READY:
            self._update(message=state.text)
        elif state.phase is TritonPhase.WAITING:
            self._on_trouble(state.text.splitlines()[0])

    def _on_trouble(self, reason: str) -> None:
        """Triton or the tap broke: known at once, before the next poll would see it."""
        interruptions = self.snapshot.interruptions + (self.snapshot.phase is Phase.READY)
        self._update(phase=Phase.RESTARTING, message=reason, interruptions=interruptions)

    def _update(self, **changes: Any) -> None:
        self.snapshot = replace(self.snapshot, **changes)
        self._changed()


def traffic(slis: Slis) -> Traffic:
    """The table's figures: rate and latency over the last minute, counts since the start."""
    total, recent = slis.inference.total, slis.inference.recent
    return Traffic(
        requests_per_second=recent.requests_per_second,
        p50_seconds=recent.latency_seconds.p50,
        p99_seconds=recent.latency_seconds.p99,
        requests=total.requests,
        errors=sum(total.outcomes.get(outcome, 0) for outcome in SERVER_FAULTS),
    )


def overrides(plan: Plan) -> RuntimeOverrides:
    """What the plan changes in the bundle's model configurations: the same for every operation."""
    first = plan.operations[0]
    return RuntimeOverrides(
        instances=first.instances,
        max_batch_size=first.max_batch_size,
        max_queue_delay_us=first.max_queue_delay.microseconds,
    )
