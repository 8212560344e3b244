"""The operator as a process: caches always, work only while leading, an orderly end."""

import asyncio
import logging
import os
import signal
import socket
import time
import uuid
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager, suppress
from datetime import UTC, datetime
from typing import TypeVar

from opentelemetry.trace import Span, Tracer
from prometheus_client import CollectorRegistry

from latentry_operator.kube.apply import Applier
from latentry_operator.kube.cache import Cache, Listeners
from latentry_operator.kube.client import Client, ClientSettings
from latentry_operator.kube.connection import Connection
from latentry_operator.kube.errors import KubeError
from latentry_operator.kube.events import EventRecorder
from latentry_operator.kube.kinds import Key
from latentry_operator.kube.lease import Election, LeaseSettings
from latentry_operator.runtime.http import serve_http
from latentry_operator.runtime.knowledge import Knowledge
from latentry_operator.runtime.logs import configure_logging, current_object
from latentry_operator.runtime.metrics import OperatorMetrics
from latentry_operator.runtime.model_metrics import ModelCollector
from latentry_operator.runtime.pools import USE_SECONDS, Pools
from latentry_operator.runtime.queue import WorkQueue
from latentry_operator.runtime.reconcile import Deps, Reconciler
from latentry_operator.runtime.tracing import Tracing
from latentry_operator.settings import OperatorSettings

log = logging.getLogger(__name__)

TOUCH_SECONDS = 0.1
"""How long changes of a model's objects are gathered before a pass: they come in bursts."""
_POOL_WORKERS = 2
_LAST_EVENTS_SECONDS = 2.0

K = TypeVar("K", Key, str)


def run_operator(settings: OperatorSettings) -> None:
    """Run until SIGTERM or SIGINT.

    Raises:
        InvalidInput: there are no usable credentials.
        OperationFailed: the HTTP port cannot be had.
    """
    configure_logging(settings.log_level)
    asyncio.run(_until_signalled(settings))


async def _until_signalled(settings: OperatorSettings) -> None:
    operator = Operator(settings)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, operator.stop)
    await operator.run()


class Operator:
    """One operator; several may run in one loop, as tests do."""

    def __init__(self, settings: OperatorSettings) -> None:
        self._settings = settings
        self._stopping = asyncio.Event()
        self.leads = False
        """Whether this one acts now."""
        self._identity = f"{socket.gethostname()}-{uuid.uuid4().hex[:8]}"
        self.metrics = OperatorMetrics(CollectorRegistry())
        self._tracing = Tracing(settings.otlp_endpoint)
        self._models: WorkQueue[Key] = WorkQueue()
        self._pool_names: WorkQueue[str] = WorkQueue()
        self.metrics.watch_queue("LatentModel", self._models.__len__)
        self.metrics.watch_queue("GPUPool", self._pool_names.__len__)
        self._connection = Connection(settings.kubeconfig, settings.context, settings.api.connections)
        self._client = Client(
            self._connection,
            ClientSettings(
                timeout=settings.api.timeout_seconds,
                calls_per_second=settings.api.calls_per_second,
                burst=round(settings.api.calls_per_second),
            ),
            self.metrics.observe_call,
            time.monotonic,
        )
        listeners = Listeners(
            model=self._models.add,
            touched=lambda key: self._models.add_later(key, TOUCH_SECONDS),
            pool=self._pool_changed,
            kinds=self._all_again,
        )
        self.cache = Cache(
            self._client,
            namespace=settings.namespace,
            discovery_seconds=settings.api.discovery_seconds,
            listeners=listeners,
        )
        self.metrics.registry.register(ModelCollector(self.cache, lambda: self.leads))
        self._events = EventRecorder(self._client, instance=self._identity, now=_now, clock=time.monotonic)
        self._pools = Pools(self._client, self.cache, now=_now, changed=self._pool_changed, look_again=self._models.add)
        self._knowledge = Knowledge(settings, self.cache, lambda key: self._models.add_later(key, TOUCH_SECONDS))
        self._reconciler = Reconciler(
            Deps(
                client=self._client,
                cache=self.cache,
                applier=Applier(self._client, self.cache.read),
                events=self._events,
                pools=self._pools,
                settings=settings.cluster,
                now=_now,
                taps=self._knowledge.taps.facts,
                budgets=self._knowledge.budgets,
                evidence=self._knowledge.evidence.read,
            )
        )
        self.port = 0
        """Where HTTP is served, once it is."""

    def stop(self) -> None:
        """Ask for an orderly end: passes stop where they are, which is safe anywhere, and the lead is given up."""
        self._stopping.set()

    async def run(self) -> None:
        """Run until :meth:`stop`. Raises as :func:`run_operator`."""
        await self._connection.open()
        http = self._settings.http
        try:
            async with serve_http(
                http.host, http.port, self.metrics.registry, lambda: "", self._not_ready
            ) as self.port:
                log.info("started", extra={"identity": self._identity, "port": self.port, "api": self._connection.host})
                await self._serve()
        finally:
            await self._connection.close()
            await self._tracing.close()
            log.info("stopped")

    async def _serve(self) -> None:
        jobs = [asyncio.create_task(job) for job in (self.cache.run(), self._events.run(), self._lead())]
        stopping = asyncio.create_task(self._stopping.wait())
        try:
            done, _ = await asyncio.wait([*jobs, stopping], return_when=asyncio.FIRST_COMPLETED)
            for task in done - {stopping}:
                task.result()  # raises: these end by cancellation only
        finally:
            for task in (jobs[2], stopping):
                await _cancelled(task)
            with suppress(TimeoutError):
                async with asyncio.timeout(_LAST_EVENTS_SECONDS):
                    await self._events.flush()
            for task in jobs[:2]:
                await _cancelled(task)

    async def _lead(self) -> None:
        """Work while leading, for as long as the process lives."""
        await self.cache.wait_synced()
        leader = self._settings.leader
        if not leader.elect:
            await self._work()
        times = LeaseSettings(leader.duration_seconds, leader.renew_deadline_seconds, leader.retry_seconds)
        key = (leader.namespace or os.environ.get("POD_NAMESPACE", "default"), leader.lease)
        while True:
            election = Election(self._client, key, self._identity, times, clock=time.monotonic, now=_now)
            await election.win()
            work = asyncio.create_task(self._work())
            hold = asyncio.create_task(election.hold())
            try:
                await asyncio.wait([work, hold], return_when=asyncio.FIRST_COMPLETED)
                if work.done():
                    work.result()
                log.warning("the lead is lost")
            finally:
                await _cancelled(hold)
                await _cancelled(work)
                # After, not before, the last call of ours has ended.
                await asyncio.shield(election.release())

    async def _work(self) -> None:
        log.info("leading")
        self.leads = True
        self.metrics.leading.set(1)
        self._pools.restart()
        self._reconciler.seed()
        self._all_again()
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._knowledge.run())
                group.create_task(self._drain("LatentModel", self._models, self._settings.workers, self._model))
                group.create_task(self._drain("GPUPool", self._pool_names, _POOL_WORKERS, self._pools.reconcile))
        finally:
            self.leads = False
            self.metrics.leading.set(0)

    async def _model(self, key: Key) -> float | None:
        return await self._reconciler.reconcile(key)

    async def _drain(
        self, kind: str, queue: WorkQueue[K], workers: int, reconcile: Callable[[K], Awaitable[float | None]]
    ) -> None:
        async def do(key: K) -> float | None:
            name = key if isinstance(key, str) else "/".join(key)
            current_object.set(f"{kind} {name}")
            with self.metrics.reconcile_seconds.labels(kind).time(), _span(self._tracing.tracer, kind, name):
                return await reconcile(key)

        def failed(_: K, error: Exception, pause: float) -> None:
            reason = error.reason or "Unreachable" if isinstance(error, KubeError) else type(error).__name__
            self.metrics.reconcile_errors.labels(kind, reason).inc()
            known = isinstance(error, KubeError)
            log.log(
                logging.WARNING if known else logging.ERROR,
                "pass failed, it is repeated",
                extra={"error": str(error), "again_in_seconds": round(pause, 2)},
                exc_info=None if known else error,
            )

        await queue.work(workers, do, failed)

    def _pool_changed(self, pool: str) -> None:
        self._pool_names.add_later(pool, USE_SECONDS)

    def _all_again(self) -> None:
        for record in self.cache.models:
            self._models.add(record.key)
        for record in self.cache.pools:
            self._pool_names.add(record.key[1])

    def _not_ready(self) -> str:
        return "" if self.cache.synced else "the cluster's objects have not all been seen yet"


def _span(tracer: Tracer, kind: str, name: str) -> AbstractContextManager[Span]:
    return tracer.start_as_current_span(f"reconcile {kind}", attributes={"latentry.object": name})


async def _cancelled(task: asyncio.Task[object] | asyncio.Task[None]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


def _now() -> datetime:
    return datetime.fromtimestamp(time.time_ns() // 1_000 / 1e6, UTC)
