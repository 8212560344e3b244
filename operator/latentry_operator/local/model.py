"""One LatentModel on this machine: the rollout policy carried out with processes.

A revision is a Triton with a tap. The model's listening sockets are opened once and stay: which revision's tap takes
clients from them is what a switch changes. One look after the other observes, has the policy decide, and carries out.
"""

import asyncio
import shutil
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, closing, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx

from latentry_operator.local.admin_door import AdminDoor
from latentry_operator.local.alarm import Alarm
from latentry_operator.local.control import ControlServer
from latentry_operator.local.evidence import EvidenceReader
from latentry_operator.local.figures import read_traffic
from latentry_operator.local.ports import PortAllocator
from latentry_operator.local.rehearsal import Rehearsals
from latentry_operator.local.revision import HOLD_SECONDS, POLL_SECONDS, LocalRevision, Site, sentence
from latentry_operator.local.snapshot import Addresses, Phase, RevisionView, Snapshot
from latentry_operator.local.story import EDIT_REFUSED, EDIT_TAKEN, SWITCH_FAILED, Story
from latentry_operator.local.wanted import Wanted
from latentry_operator.plan.rollout.facts import Command, Evidence, RolloutFacts, Running, Verb
from latentry_operator.plan.rollout.machine import Decision, Desired, advance
from latentry_operator.plan.rollout.policy import FULL
from latentry_operator.plan.rollout.reasons import RolloutReason
from latentry_operator.plan.rollout.stand_in import stand_in
from latentry_operator.plan.rollout.state import RolloutState
from latentry_serving.contract.errors import InvalidInput, LatentryError, OperationFailed
from latentry_serving.contract.tap_config import Address
from latentry_serving.contract.triton_traces import TraceExport
from latentry_serving.tap.listening import bind
from latentry_serving.triton.install import TritonInstall


@dataclass(frozen=True, slots=True)
class Place:
    """Where a model lives for as long as `latentry up` runs.

    Attributes:
        name: the model's.
        http, grpc, admin: where clients and Prometheus reach it.
        page: URL of this model on the page.
        run_dir: a folder of this model's own for logs and generated files; removed after a clean stop.
        triton_traces: where Triton's own spans go, None for nowhere.
    """

    name: str
    http: Address
    grpc: Address
    admin: Address
    page: str
    run_dir: Path
    triton_traces: TraceExport | None = None


class LocalModel:
    """Runs one model until cancelled and knows at any time how it stands."""

    def __init__(
        self,
        first: Wanted,
        place: Place,
        install: TritonInstall,
        ports: PortAllocator,
        *,
        changed: Callable[[], None],
        clock: Callable[[], float],
        retried: Callable[[], None] = lambda: None,
    ) -> None:
        """
        Args:
            changed: called when the snapshot is another one.
            clock: Unix time.
            retried: called when somebody asks to try again: a refused edit may be right by now.
        """
        self._place, self._install, self._ports = place, install, ports
        self._changed, self._clock, self._retried = changed, clock, retried
        self._wanted = first
        self._plans = {first.revision: first}
        self._edit = ""
        self._state: RolloutState | None = None
        self._revisions: dict[str, LocalRevision] = {}
        self._leaving: dict[str, asyncio.Task[None]] = {}
        self._serving = ""
        self._rehearsals = Rehearsals()
        self._command: Command | None = None
        self._commands = 0
        self._commanding, self._looked = asyncio.Lock(), asyncio.Event()
        self._wake, self._alarm = asyncio.Event(), Alarm()
        self._story = Story(self._view, clock)
        addresses = Addresses(str(place.http), str(place.grpc), str(place.admin), place.page)
        self.snapshot = Snapshot(place.name, first.plan.version, Phase.STARTING, "preparing", addresses)
        self.failure: LatentryError | None = None

    @property
    def name(self) -> str:
        return self._place.name

    def follow(self, wanted: Wanted) -> None:
        """The file asks for this now."""
        if self._edit:
            self._story.tell("Normal", EDIT_TAKEN, f"the file can be served again: revision {wanted.revision}")
        elif wanted.revision == self._wanted.revision and wanted.policy != self._wanted.policy:
            self._story.tell("Normal", EDIT_TAKEN, f"other rules of the rollout, the same revision {wanted.revision}")
        self._wanted, self._edit = wanted, ""
        self._plans[wanted.revision] = wanted
        self._wake.set()

    def refuse(self, reason: str) -> None:
        """The file was edited and asks for what cannot be served; what runs goes on."""
        if reason != self._edit:
            self._story.tell("Warning", EDIT_REFUSED, reason)
        self._edit = reason
        if self.failure is not None:
            self._update(message=reason)
        self._wake.set()

    async def command(self, verb: Verb) -> list[str]:
        """Carries out a command; what the next look tells."""
        async with self._commanding:
            self._commands += 1
            if verb is Verb.RETRY:
                self._retried()
            self._command = Command(verb, f"{verb}:{self._commands}")
            told = self._story.last
            self._looked.clear()
            self._wake.set()
            await self._looked.wait()
            return self._story.since(told)

    async def run(self) -> None:
        """Serves and follows until cancelled. What cannot start ends with ``failure``, and waits for an edit."""
        try:
            while True:
                edits = self._wanted
                try:
                    await self._serve()
                except (OperationFailed, InvalidInput) as error:
                    self.failure = error
                    self._update(phase=Phase.FAILED, message=sentence(error))
                while self._wanted is edits:
                    self._wake.clear()
                    await self._wake.wait()
                self.failure, self._state, self._command = None, None, None
                self._update(phase=Phase.STARTING, message="preparing", version=self._wanted.plan.version)
        finally:
            if self.failure is None:
                self._update(phase=Phase.STOPPED, message="stopped")
                if not self.snapshot.interruptions:
                    shutil.rmtree(self._place.run_dir, ignore_errors=True)

    async def _serve(self) -> None:
        place = self._place
        place.run_dir.mkdir(parents=True, exist_ok=True)
        async with AsyncExitStack() as stack:
            http = stack.enter_context(closing(bind(place.http, "http")))
            grpc = stack.enter_context(closing(bind(place.grpc, "grpc")))
            door = await stack.enter_async_context(AdminDoor(bind(place.admin, "admin")))
            site = Site(self._install, http, grpc, place.admin.port, self._ports, place.run_dir, place.triton_traces)
            stack.push_async_callback(self._stop_all)
            await stack.enter_async_context(ControlServer(place.run_dir, self))
            client = await stack.enter_async_context(httpx.AsyncClient(trust_env=False))
            evidence = EvidenceReader(client)
            stack.push_async_callback(evidence.close)
            while True:
                self._wake.clear()
                await self._look(site, client, evidence)
                if (shown := self._shown()) is not None:
                    door.lead_to(shown.admin)
                with suppress(TimeoutError):
                    async with asyncio.timeout(POLL_SECONDS):
                        await self._wake.wait()

    async def _look(self, site: Site, client: httpx.AsyncClient, reader: EvidenceReader) -> None:
        self._alarm.reset()
        evidence = await self._alarm.unless_rung(self._read_evidence(self._state or RolloutState(), reader), Evidence())
        command = self._command
        facts = RolloutFacts(
            target=self._wanted.revision,
            full=1,
            revisions=await self._observe(self._state or RolloutState()),
            traffic={self._serving: FULL} if self._serving else {},
            evidence=evidence,
            command=command,
        )
        now = self._clock()
        decision = advance(self._state, facts, self._wanted.policy, now)
        self._state = decision.state
        self._story.tell_all(decision.happenings)
        serving = decision.desired.selected or self._serving
        helper = stand_in(decision.state, facts, self._wanted.policy, now, serving)
        if (revision := self._revisions.get(serving)) is not None:
            await revision.hold(HOLD_SECONDS if helper else 0.0)  # before it gets the clients
        await self._carry_out(decision.desired, site)
        for other in self._revisions.keys() - {self._serving}:
            await self._revisions[other].hold(0.0)
        await self._report(decision, client)
        if command is self._command:
            self._looked.set()
        if decision.look_seconds == 0.0:
            self._wake.set()
        self._fail_first(decision)

    async def _observe(self, state: RolloutState) -> dict[str, Running]:
        found = {name: revision.running() for name, revision in self._revisions.items()}
        stable, candidate = self._revisions.get(state.stable), self._revisions.get(state.candidate)
        if told := await self._rehearsals.look(state, stable, candidate):
            found[state.candidate] = told
        return found

    async def _read_evidence(self, state: RolloutState, reader: EvidenceReader) -> Evidence:
        candidate, stable = self._revisions.get(state.candidate), self._revisions.get(state.stable)
        if candidate is None or not candidate.running().ready:
            return Evidence()
        return await reader.read(state, candidate, stable, stable_serves=self._serving == state.stable)

    async def _carry_out(self, desired: Desired, site: Site) -> None:
        for name in desired.replicas:
            if name not in self._revisions and name in self._plans:
                await self._settled(name)
                revision = LocalRevision(
                    self._plans[name], site, self._on_change, lost=self._on_loss, created=self._clock()
                )
                self._revisions[name] = revision
                revision.start()
        if desired.selected and desired.selected != self._serving:
            await self._switch(desired.selected)
        for name in self._revisions.keys() - desired.replicas.keys() - {self._serving}:
            self._leaving[name] = asyncio.create_task(self._revisions.pop(name).stop())
        for name in self._plans.keys() - desired.replicas.keys() - {self._wanted.revision}:
            del self._plans[name]

    async def _switch(self, name: str) -> None:
        """Gives the clients to a revision. What goes wrong is observed at the next look, and tried again."""
        new, old = self._revisions.get(name), self._revisions.get(self._serving)
        if new is None:
            return
        try:
            if old is None:
                await new.serve()
            else:
                new.alarm.reset()
                await new.alarm.unless_rung(old.hand_over(new), None)  # a taker that breaks gives them away at once
        except OperationFailed as error:
            self._story.tell("Warning", SWITCH_FAILED, str(error))
            return
        self._serving = name

    async def _settled(self, name: str) -> None:
        """Waits for the last processes of a revision that is started again: they have the same folder."""
        if (task := self._leaving.pop(name, None)) is not None:
            await task

    async def _stop_all(self) -> None:
        stops: list[Awaitable[None]] = [revision.stop() for revision in self._revisions.values()]
        self._revisions, self._serving = {}, ""
        await self._rehearsals.close()
        leaving, self._leaving = self._leaving, {}
        for result in await asyncio.gather(*stops, *leaving.values(), return_exceptions=True):
            if isinstance(result, Exception):
                raise result

    def _fail_first(self, decision: Decision) -> None:
        """A first revision that cannot serve is no rollout: there is nothing to go on with.

        Raises:
            LatentryError: why.
        """
        state = decision.state
        if state.stable or state.held is None:
            return
        candidate = self._revisions.get(state.candidate)
        if candidate is not None and candidate.failure is not None:
            raise candidate.failure
        if state.held.reason is not RolloutReason.INCONCLUSIVE:
            raise OperationFailed(state.held.message, remedy=f"see the logs in {self._place.run_dir}, or edit the file")

    async def _report(self, decision: Decision, client: httpx.AsyncClient) -> None:
        rollout = self._story.view(decision, serving=self._serving, edit=self._edit, notes=self._wanted.notes)
        shown = self._shown()
        if shown is None:
            self._update(rollout=rollout)
            return
        changes: dict[str, Any] = {"rollout": rollout, "version": shown.wanted.plan.version}
        traffic = self.snapshot.traffic
        if self._serving and shown.ready:
            traffic = await self._alarm.unless_rung(read_traffic(client, shown.url), None) or traffic
        if not self._serving:
            self._update(**changes, message=shown.message or "golden outputs are checked")
        elif shown.ready:
            self._update(**changes, phase=Phase.READY, was_ready=True, message=self._where(), traffic=traffic)
        else:
            self._update(**changes, **self._not_ready(shown))

    def _not_ready(self, shown: LocalRevision) -> dict[str, Any]:
        lost = self.snapshot.phase is Phase.READY
        message = shown.message or "golden outputs are not the recorded ones"
        interruptions = self.snapshot.interruptions + lost
        return {"phase": Phase.RESTARTING, "message": message, "interruptions": interruptions}

    def _shown(self) -> LocalRevision | None:
        """The revision that the model's figures are of: the one with the traffic, before it the first one."""
        candidate = self._state.candidate if self._state is not None else ""
        return self._revisions.get(self._serving or candidate)

    def _where(self) -> str:
        place = self._place
        return f"HTTP {place.http}  gRPC {place.grpc}  metrics http://{place.admin}/metrics  page {place.page}"

    def _view(self, revision: str) -> RevisionView | None:
        wanted = self._plans.get(revision)
        return wanted.view if wanted is not None else None

    def _on_change(self) -> None:
        """A revision broke or came up: told now and looked at now, not at the next turn."""
        serving = self._revisions.get(self._serving)
        if serving is not None and not serving.ready and self.snapshot.phase is Phase.READY:
            self._update(**self._not_ready(serving))
        self._wake.set()

    def _on_loss(self) -> None:
        """A revision answered and does no more."""
        self._alarm.ring()
        self._wake.set()

    def _update(self, **changes: Any) -> None:
        self.snapshot = replace(self.snapshot, **changes)
        self._changed()
