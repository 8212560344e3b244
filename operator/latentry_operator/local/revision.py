"""One revision on this machine: Triton and a tap beside it, watched through the tap's admin API.

Every revision's tap holds the model's listening sockets; which of them takes clients is told through ``serve`` and
``hand_over``. A revision that takes none is as complete as one that does: it gets ready, probes itself, is measured.
"""

import asyncio
import logging
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from socket import socket

import httpx

from latentry_operator.local import memory
from latentry_operator.local.alarm import Alarm
from latentry_operator.local.ports import HOST, PortAllocator
from latentry_operator.local.tap_process import TapProcess
from latentry_operator.local.wanted import Wanted
from latentry_operator.plan.rollout.facts import Running
from latentry_operator.plan.types import Plan
from latentry_serving.contract.bundle_report import BundleReport, ProbesReport
from latentry_serving.contract.errors import InvalidInput, LatentryError, OperationFailed
from latentry_serving.contract.metrics import BundleState, ProbeOutcome
from latentry_serving.contract.tap_config import Address
from latentry_serving.contract.triton_traces import TraceExport
from latentry_serving.tap.control_client import ask
from latentry_serving.triton.install import TritonInstall
from latentry_serving.triton.local_repository import RuntimeOverrides, write_local_repository
from latentry_serving.triton.process import TritonSettings
from latentry_serving.triton.supervisor import Phase as TritonPhase
from latentry_serving.triton.supervisor import ServerState, TritonServer

POLL_SECONDS = 0.5
"""How often the tap is asked for its readiness."""
DRAIN_SECONDS = 5.0
"""On one machine nobody waits long for Ctrl-C."""
READY_AFTER_START_SECONDS = 30.0
"""From a tap that has checked the bundle's files, however large they are, to one whose probes were answered."""
HAND_OVER_SECONDS = 10.0
"""How long busy connections may take to end a call; what is left then stays where it is and is drained at the stop."""
HOLD_SECONDS = 10.0
"""How long clients whose Triton is gone wait for the revision that stands in. It takes milliseconds, on a machine whose
cores are all taken also seconds; who is refused in them fails call after call."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Site:
    """What all revisions of a model share.

    Attributes:
        install: which Triton.
        http, grpc: listening sockets, open for as long as the model lives; nobody here accepts from them.
        admin_port: first port tried for a tap's admin API.
        ports: hands out ports.
        run_dir: the model's folder.
        triton_traces: where Triton's own spans go, None for nowhere.
    """

    install: TritonInstall
    http: socket
    grpc: socket
    admin_port: int
    ports: PortAllocator
    run_dir: Path
    triton_traces: TraceExport | None = None


class LocalRevision:
    """Runs from ``start`` to ``stop`` and knows at any time how it stands."""

    def __init__(
        self, wanted: Wanted, site: Site, changed: Callable[[], None], *, lost: Callable[[], None], created: float
    ) -> None:
        """
        Args:
            changed: called at once when something broke or came up.
            lost: called before that when it answered and no longer does.
            created: Unix time.
        """
        self.wanted = wanted
        self.name = wanted.revision
        self.admin = Address(host=HOST, port=site.ports.take(site.admin_port))
        self.message = "preparing"
        """What it waits for; empty while it is ready."""
        self.failure: LatentryError | None = None
        """Why it ended before it was ready."""
        self.alarm = Alarm()
        """Rung when it answered and no longer does."""
        self.triton: Address | None = None
        """Its Triton's HTTP address, once it runs."""
        self._site = site
        self._changed, self._lost = changed, lost
        self._created = created
        self._run_dir = site.run_dir / self.name.rpartition("-")[2]  # short: sockets' paths are limited
        self._serving = False
        self._hold_seconds = 0.0
        self._answers = False
        self._seen_answering = False
        self._breaks, self._losses = 0, 0
        self._refused, self._killed_for = "", ""
        self._tap: TapProcess | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def url(self) -> str:
        """Of its tap's admin API."""
        return f"http://{self.admin}"

    @property
    def ready(self) -> bool:
        """Whether clients can be served."""
        return self._answers and not self.message

    @property
    def broke(self) -> bool:
        """Whether it ended before it was ready, or something of it had to be started again."""
        return self.failure is not None or self._breaks > 0

    def running(self) -> Running:
        """As the rollout's policy sees it."""
        refused = self._refused if self.failure is None else sentence(self.failure)
        return Running(int(self._answers), 1, self._created, self._breaks, refused, self.message)

    def start(self) -> None:
        """Begins to get ready."""
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Ends its processes; calls in flight get their time. Its folder stays only when something broke."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
        self._site.ports.give_back(self.admin.port)
        if not self.broke:
            shutil.rmtree(self._run_dir, ignore_errors=True)

    async def serve(self) -> None:
        """Takes clients, whoever had them. Raises OperationFailed when the tap does not answer; a tap that is being
        started takes them as soon as it runs."""
        self._serving = True
        if self._tap is not None and self._tap.control is not None:
            await ask(self._tap.control, "accept")

    async def hand_over(self, other: "LocalRevision") -> None:
        """Moves its clients to another revision, whose tap runs.

        Raises:
            OperationFailed: the other did not take them; those that are not moved yet stay here.
        """
        mine, its = (revision.control for revision in (self, other))
        if its is None:
            raise OperationFailed(f"the tap of {other.name} does not run", remedy="it is being started again")
        other._serving, self._serving = True, False
        if mine is None:  # nobody is connected to a tap that does not run
            await ask(its, "accept")
            return
        try:
            moved = await ask(mine, "hand over", to=its, seconds=HAND_OVER_SECONDS)
        except OperationFailed:
            if self._tap is not None:
                self._tap.kill()  # or it would go on taking clients; it is started again, and takes none then
            await ask(its, "accept")
            return
        _log.info("clients of %s handed over to %s: %s", self.name, other.name, moved)
        if problem := moved["problem"]:
            other._serving, self._serving = False, True
            raise OperationFailed(f"clients could not be handed over: {problem}", remedy="it is tried again")

    async def hold(self, seconds: float) -> None:
        """For how long clients that come while its Triton is gone wait to be handed over; 0: they are refused at once.
        A tap that does not answer keeps what it was told last; it is to be asked again at the next look."""
        if seconds == self._hold_seconds or self.control is None:
            return
        try:
            await ask(self.control, "hold", seconds=seconds)
        except OperationFailed as error:
            _log.warning("%s: %s", self.name, error)
            return
        self._hold_seconds = seconds

    @property
    def control(self) -> str | None:
        """Where its tap takes orders; None while it does not run."""
        return self._tap.control if self._tap is not None else None

    async def _run(self) -> None:
        try:
            await self._live()
        except (OperationFailed, InvalidInput) as error:
            self.failure, self._answers = error, False
            self._tell(sentence(error))

    async def _live(self) -> None:
        site, wanted = self._site, self.wanted
        self._run_dir.mkdir(parents=True, exist_ok=True)
        repository = self._run_dir / "repository"
        write_local_repository(wanted.bundle_dir, wanted.manifest, repository, site.install, overrides(wanted.plan))
        settings = TritonSettings(traces=site.triton_traces)
        server = TritonServer(site.install, repository, self._run_dir / "triton", settings, observer=self._on_triton)
        async with server:
            self.triton = server.addresses.http
            self._tell("starting the tap")
            async with self._new_tap(server) as tap, httpx.AsyncClient(trust_env=False) as client:
                self._tap = tap
                await self._watch(server, client)

    def _new_tap(self, server: TritonServer) -> TapProcess:
        wanted, site = self.wanted, self._site
        config = wanted.plan.tap.model_copy(
            update={
                "http_fd": site.http.fileno(),
                "grpc_fd": site.grpc.fileno(),
                "admin": self.admin,
                "upstream_http": server.addresses.http,
                "upstream_grpc": server.addresses.grpc,
                "upstream_metrics": server.addresses.metrics,
                "bundle_dir": str(wanted.bundle_dir.absolute()),
                "drain_seconds": DRAIN_SECONDS,
            }
        )
        return TapProcess(
            config,
            self._run_dir,
            accepting=lambda: self._serving,
            hold_seconds=lambda: self._hold_seconds,
            report=self._on_trouble,
        )

    async def _watch(self, server: TritonServer, client: httpx.AsyncClient) -> None:
        """Asks the tap, and looks at Triton's memory, for ever.

        Raises:
            OperationFailed: it did not come to answer in time after its start.
        """
        loop = asyncio.get_running_loop()
        memory_due, until = loop.time(), loop.time() + READY_AFTER_START_SECONDS
        while True:
            if loop.time() >= memory_due:
                await self._look_at_memory(server)
                memory_due = loop.time() + memory.LOOK_SECONDS
            losses = self._losses
            reason = await self._not_ready(client)
            # Outputs that are not the recorded ones are answers too: the golden gate judges them.
            answers = not reason or await self._golden_missed(client)
            if losses != self._losses:  # what the tap said is older than that
                continue
            if not self._seen_answering and await self._checks_files(client):
                until = loop.time() + READY_AFTER_START_SECONDS
            self._seen_answering = self._seen_answering or answers
            if not self._seen_answering and loop.time() > until:
                raise OperationFailed(
                    f"the tap is not ready after {READY_AFTER_START_SECONDS:g} s: {reason}",
                    remedy=f"see the logs in {self._run_dir}",
                )
            self._answers = answers
            self._tell(reason)
            await asyncio.sleep(POLL_SECONDS if self._seen_answering else POLL_SECONDS / 5)

    async def _not_ready(self, client: httpx.AsyncClient) -> str:
        """Why clients cannot be served; empty when they can."""
        try:
            answer = await client.get(f"{self.url}/readyz")
        except httpx.HTTPError as error:
            return f"the tap does not answer ({type(error).__name__})"
        return "" if answer.is_success else f"not ready: {', '.join(answer.json()['reasons'])}"

    async def _checks_files(self, client: httpx.AsyncClient) -> bool:
        try:
            answer = (await client.get(f"{self.url}/bundle")).raise_for_status()
        except httpx.HTTPError:  # it does not answer: _not_ready says so
            return False
        report = BundleReport.model_validate_json(answer.content)
        if report.state is BundleState.REFUSED:
            self._refused = "; ".join(report.problems)
        return report.state is BundleState.CHECKING

    async def _golden_missed(self, client: httpx.AsyncClient) -> bool:
        """Whether a golden probe of every operation got an answer, and one of them the wrong one."""
        if self._seen_answering and not self._answers:
            return False  # it broke after it had answered
        try:
            answer = (await client.get(f"{self.url}/probes")).raise_for_status()
        except httpx.HTTPError:
            return False
        outcomes = {probe.outcome for probe in ProbesReport.model_validate_json(answer.content).operations}
        return bool(outcomes - {ProbeOutcome.PASSED}) and not outcomes & {None, ProbeOutcome.UNREACHABLE}

    async def _look_at_memory(self, server: TritonServer) -> None:
        limit, pid = self.wanted.plan.placement.resources.limits.memory, server.state.pid
        if limit is None or pid is None or server.state.phase is not TritonPhase.READY:
            return
        used = await asyncio.to_thread(memory.used_bytes, pid)
        told = f"Triton takes {used / 2**20:.0f} MiB of at most {limit} (runtime.resources.limits.memory)"
        if used > memory.WARN_SHARE * limit.count and not self._refused:
            self._refused = f"{told}; look for a leak, or raise the limit"
            self._changed()
        if used > limit.count and pid == server.state.pid:
            self._killed_for = f"{told} and is killed, as a container would be"
            memory.kill(pid)

    def _on_triton(self, state: ServerState) -> None:
        if state.phase is TritonPhase.STARTING and not self._seen_answering:
            self._tell(state.text)
        elif state.phase is TritonPhase.BROKEN:
            self._lose(state.text)
        elif state.phase is TritonPhase.WAITING:
            why, self._killed_for = self._killed_for, ""
            self._on_trouble(why or state.text.splitlines()[0])

    def _on_trouble(self, reason: str) -> None:
        """Triton or the tap broke: known at once, before the next poll would see it."""
        self._breaks += 1
        self._lose(reason)

    def _lose(self, reason: str) -> None:
        self._losses += 1
        if self._answers:
            self._answers = False
            self.alarm.ring()
            self._lost()
        self._tell(reason)

    def _tell(self, message: str) -> None:
        if message != self.message:
            self.message = message
            self._changed()


def overrides(plan: Plan) -> RuntimeOverrides:
    """What the plan changes in the bundle's model configurations: the same for every operation."""
    first = plan.operations[0]
    return RuntimeOverrides(
        instances=first.instances,
        max_batch_size=first.max_batch_size,
        max_queue_delay_us=first.max_queue_delay.microseconds,
    )


def sentence(error: LatentryError) -> str:
    """An error in one line where it can be said in one; details stay out."""
    return f"{error.problem}; {error.remedy}" if isinstance(error, OperationFailed) else str(error)
