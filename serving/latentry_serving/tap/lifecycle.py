"""The tap from start to stop: listen, serve until told to stop, let calls in flight finish."""

import asyncio
import gc
import json
import logging
import resource
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import uvicorn
from prometheus_client import CollectorRegistry

from latentry_serving.contract.metrics import OTHER_OPERATION
from latentry_serving.contract.slis import Latency, Slis
from latentry_serving.contract.tap_config import TapConfig
from latentry_serving.sli.book import SliBook
from latentry_serving.tap.admin import admin_app
from latentry_serving.tap.bundle_source import BundleSource, bundle_appears, open_bundle
from latentry_serving.tap.bundle_views import bundle_router
from latentry_serving.tap.compare_views import rollout_routers
from latentry_serving.tap.control import Control
from latentry_serving.tap.forwarder import Forwarder
from latentry_serving.tap.history import HistoryKeeper
from latentry_serving.tap.listening import bind
from latentry_serving.tap.monitoring_views import monitoring_router
from latentry_serving.tap.page_views import page_views
from latentry_serving.tap.readiness import Readiness
from latentry_serving.tap.slis import latency, slis
from latentry_serving.tap.summary import summary_router
from latentry_serving.tap.triton_metrics import triton_metrics_router
from latentry_serving.tap.watchers import Watchers
from latentry_serving.telemetry.bundle import BundleCollector
from latentry_serving.telemetry.monitoring import MonitoringCollector
from latentry_serving.telemetry.prometheus import registry_for

if TYPE_CHECKING:
    from latentry_serving.tap.bundle_watch import BundleWatch

log = logging.getLogger(__name__)

_SPARE_DESCRIPTORS = 256
_SETTLE_SECONDS = 1.0
"""How long a reader of the figures waits for the traffic's thread to add up its latest calls."""
_KEEP_ALIVE_SECONDS = 75
"""Longer than Prometheus and the operator pause between two reads: a new connection each time costs both sides more."""
_SWITCH_SECONDS = 0.0002
"""How long traffic waits at most for the interpreter while the admin thread renders (Python's default is 5 ms)."""


@dataclass(frozen=True, slots=True)
class Ports:
    """Where the tap listens, after the system's choice where the configuration says 0."""

    http: int
    grpc: int
    admin: int


class Tap:
    """A tap inside the running event loop."""

    def __init__(
        self,
        config: TapConfig,
        clock: Callable[[], float] = time.monotonic,
        unix_clock: Callable[[], float] = time.time,  # noqa: TID251 - this is where it becomes an argument
    ) -> None:
        """
        Args:
            clock: monotonic seconds.
            unix_clock: seconds since 1970.

        Raises:
            InvalidInput: the bundle's manifest cannot be read.
        """
        source = open_bundle(config)
        if source is not None:
            config = source.applied_to(config)
        self._config = config
        self._clock = clock
        self.book = SliBook(
            config.latency_buckets_seconds,
            [*(operation.value for operation in config.operations.values()), OTHER_OPERATION],
            started_s=clock(),
        )
        self.watchers = Watchers(config, self.book, clock, unix_clock)
        self._history = HistoryKeeper(self.watchers.monitoring, unix_clock)
        self._forwarder = Forwarder(config, self.book, self.watchers.listener, clock)
        self._control = Control(config.control, self._forwarder, clock) if config.control is not None else None
        self._ports: Ports | None = None
        self.watch = self._watching(source) if source is not None else None
        self._readiness = Readiness(
            config.upstream_http,
            listening=lambda: self._ports is not None,
            bundle=self.watch.reasons if self.watch is not None else list,
        )
        self._thread = threading.get_ident()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._admin: uvicorn.Server | None = None
        self._admin_thread: threading.Thread | None = None

    async def start(self) -> Ports:
        """Opens the three ports, and the control socket where there is one.

        Raises:
            OperationFailed: an address cannot be bound.
            InvalidInput: an inherited descriptor is no listening TCP socket.
        """
        admin = bind(self._config.admin, "admin")
        http, grpc = await self._forwarder.listen()
        if self._control is not None:
            self._control.start()
        self._loop = asyncio.get_running_loop()
        self._start_admin(admin)
        self._ports = Ports(http=http, grpc=grpc, admin=admin.getsockname()[1])
        if self.watch is not None:
            self.watch.start()
        return self._ports

    def slis(self) -> Slis:
        """The figures of this moment."""
        self._settle()
        config = self._config
        return slis(self.book, model=config.model, version=config.version, digest=config.digest, now_s=self._clock())

    def latency(self) -> Latency:
        """The histograms of this moment."""
        self._settle()
        return latency(self.book, now_s=self._clock())

    async def stop(self) -> None:
        """Not ready first, then no more connections, then calls in flight get ``drainSeconds`` to finish."""
        self._readiness.draining = True
        self._forwarder.doors.close()
        if self._control is not None:
            await self._control.stop()
        if self.watch is not None:
            await asyncio.to_thread(self.watch.stop)
        await self._forwarder.drain(self._config.drain_seconds)
        await self.watchers.stop()
        self._history.stop()
        if self._admin is not None and self._admin_thread is not None:
            self._admin.should_exit = True
            await asyncio.to_thread(self._admin_thread.join)

    def _settle(self) -> None:
        """Has the traffic's thread add up what finished, from any thread."""
        settled = threading.Event()

        def settle() -> None:
            self.book.settle()
            settled.set()

        if self._loop is None or self._thread == threading.get_ident():
            settle()
        else:
            self._loop.call_soon_threadsafe(settle)
            settled.wait(_SETTLE_SECONDS)

    def _watching(self, source: BundleSource) -> "BundleWatch":
        # Imported here: numpy and the decoder take 14 MB, which a tap without a bundle can do without.
        from latentry_serving.tap.bundle_watch import BundleWatch

        return BundleWatch(
            source,
            self._config,
            in_flight=lambda: self.book.in_flight,
            clock=self._clock,
            unix_offset_s=self.watchers.unix_offset_s,
        )

    def registry(self) -> CollectorRegistry:
        """Every metric of this tap, in a registry of its own."""
        config = self._config
        registry = registry_for(
            self.book,
            self.watchers.samples,
            model=config.model,
            version=config.version,
            digest=config.digest,
            unix_offset_s=self.watchers.unix_offset_s,
            settle=self._settle,
        )
        if self.watch is not None:
            registry.register(BundleCollector(self.watch, model=config.model, version=config.version))
        registry.register(
            MonitoringCollector(
                self.watchers.monitoring,
                model=config.model,
                version=config.version,
                top=config.drift.top_contributors,
            )
        )
        return registry

    def _start_admin(self, sock: socket.socket) -> None:
        """Serves the admin API from a thread with a loop of its own: rendering takes milliseconds, traffic goes on."""
        registry = self.registry()
        self.watchers.start(registry)
        desk = self.watchers.monitoring
        triton = triton_metrics_router(self._config.upstream_metrics)
        routers = [monitoring_router(desk), triton, *([bundle_router(self.watch)] if self.watch else [])]
        routers.append(summary_router(self.slis, self.book, desk.report, self.watch))
        routers += rollout_routers(self._config, self.slis, self.latency, self.watchers, self.watch)
        routers.append(page_views(self._config, self._readiness, self.latency, self._history))
        self._history.start()
        app = admin_app(registry, self._readiness, self.slis, routers)
        self._admin = uvicorn.Server(
            uvicorn.Config(
                app,
                log_config=None,
                access_log=False,
                lifespan="off",
                timeout_keep_alive=_KEEP_ALIVE_SECONDS,
                timeout_graceful_shutdown=1,
            )
        )
        self._admin_thread = threading.Thread(target=self._admin.run, args=([sock],), name="admin", daemon=True)
        self._admin_thread.start()


async def run(config: TapConfig) -> None:
    """Runs a tap until SIGTERM or SIGINT; a second signal ends the drain.

    Prints one JSON line with the ports once it listens, so that whoever started it may leave the choice to the system.

    Raises:
        OperationFailed: an address cannot be bound, or there is no bundle where one should be.
        InvalidInput: the bundle's manifest cannot be read.
    """
    sys.setswitchinterval(_SWITCH_SECONDS)
    _allow_descriptors(2 * config.max_connections + _SPARE_DESCRIPTORS)
    await bundle_appears(config)
    tap = Tap(config)
    ports = await tap.start()
    gc.collect()
    gc.freeze()  # what the start made stays: no collection has to walk it while traffic waits
    stop, hurry = asyncio.Event(), asyncio.Event()

    def on_signal() -> None:
        (hurry if stop.is_set() else stop).set()

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, on_signal)
    sys.stdout.write(json.dumps({"event": "listening"} | asdict(ports)) + "\n")
    sys.stdout.flush()
    log.info("listening", extra=asdict(ports))
    await stop.wait()
    log.info("draining", extra={"seconds": config.drain_seconds})
    await _stop_unless(tap, hurry)
    log.info("stopped")


async def _stop_unless(tap: Tap, hurry: asyncio.Event) -> None:
    stopping, hurrying = asyncio.create_task(tap.stop()), asyncio.create_task(hurry.wait())
    await asyncio.wait((stopping, hurrying), return_when=asyncio.FIRST_COMPLETED)
    hurrying.cancel()
    if hurry.is_set():
        stopping.cancel()
    with suppress(asyncio.CancelledError):
        await stopping


def _allow_descriptors(wanted: int) -> None:
    """Raises the soft limit on open files as far as it takes and the hard limit lets it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft >= wanted:
        return
    allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    if allowed < wanted:
        log.warning("fewer open files allowed than connections need", extra={"allowed": allowed, "wanted": wanted})
