"""What looks at calls beside the SLIs: samples and spans, whichever the configuration asks for."""

import logging
import os
import random
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry

from latentry_serving.contract.tap_config import TapConfig
from latentry_serving.sli.book import SliBook
from latentry_serving.sli.calls import Call, CallListener
from latentry_serving.sli.samples import SampleBook
from latentry_serving.tap.analysis import Analysis
from latentry_serving.tap.capture import SampleDesk
from latentry_serving.tap.monitoring import MonitoringDesk
from latentry_serving.tap.sampling import Sampler, TokenBucket

if TYPE_CHECKING:
    from latentry_serving.telemetry.otel import Telemetry

log = logging.getLogger(__name__)


class Watchers:
    """Costs nothing that is not asked for: without sampling no process, without a collector no OpenTelemetry."""

    def __init__(
        self, config: TapConfig, book: SliBook, clock: Callable[[], float], unix_clock: Callable[[], float]
    ) -> None:
        """
        Args:
            clock: monotonic seconds.
            unix_clock: seconds since 1970.
        """
        self._config = config
        self.unix_offset_s = unix_clock() - clock()
        """Unix time minus the clock."""
        self.samples: SampleBook | None = None
        self.monitoring = MonitoringDesk(config, unix_clock)
        self._analysis: Analysis | None = None
        self._telemetry: Telemetry | None = None
        watchers: list[CallListener] = []
        if config.sampling.max_per_second and config.operations:
            watchers.append(self._sampling(book, clock))
        if endpoint := config.otlp.endpoint or os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT"):
            from latentry_serving.telemetry import otel

            self._telemetry = otel.Telemetry(config, endpoint, unix_offset_s=self.unix_offset_s)
            watchers.append(self._telemetry.spans)
        self.listener: CallListener = Listeners(book, watchers) if watchers else book

    @property
    def recent_inputs(self) -> Callable[[], bytes | None] | None:
        """Gives the live inputs that are kept, see ``Analysis.recent_inputs``; None where none are."""
        return self._analysis.recent_inputs if self._analysis and self._config.sampling.recent_inputs else None

    def start(self, registry: CollectorRegistry) -> None:
        """Starts what runs beside the traffic. ``registry``: the metrics to export."""
        if self._analysis is not None:
            self._analysis.start()
        if self._telemetry is not None:
            self._telemetry.export_metrics(registry)

    async def stop(self) -> None:
        """Lets samples and spans on their way arrive, for a moment."""
        if self._analysis is not None:
            await self._analysis.stop()
        if self._telemetry is not None:
            await self._telemetry.stop()

    def _sampling(self, book: SliBook, clock: Callable[[], float]) -> SampleDesk:
        sampling = self._config.sampling
        operations = frozenset(operation.value for operation in self._config.operations.values())
        self.samples = SampleBook(sorted(operations))
        self._analysis = Analysis(
            self._config,
            self.samples,
            self.monitoring,
            in_flight=lambda: book.in_flight,
            clock=clock,
            unix_offset_s=self.unix_offset_s,
        )
        rates = {operation.value: rate for operation, rate in sampling.rates.items()}
        bucket = TokenBucket(sampling.max_per_second, clock())
        sampler = Sampler(bucket, rates, operations, random.Random().random)  # noqa: S311 - a choice, not a secret
        desk = SampleDesk(sampling, sampler, self.samples, self._analysis.submit)
        self._analysis.released = desk.release
        return desk


class Listeners:
    """The SLIs first, then the watchers: one that raises is told no more, and harms nobody.

    Watchers hear every call begin; what becomes of it they hear only if one of them, or the client, marked it with a
    sink or a trace. So a call that nobody follows costs next to nothing.
    """

    def __init__(self, book: SliBook, watchers: Sequence[CallListener]) -> None:
        self._book = book
        self._watchers = tuple(watchers)

    def call_begun(self, call: Call) -> None:
        """Tells all watchers; the book counts nothing yet."""
        for watcher in self._watchers:
            try:
                watcher.call_begun(call)
            except Exception as error:  # noqa: BLE001 - SLIs must not depend on watchers
                self._drop(watcher, error)

    def call_started(self, call: Call) -> None:
        """Tells all who may want to know."""
        self._book.call_started(call)
        if call.sink is None:
            return
        for watcher in self._watchers:
            try:
                watcher.call_started(call)
            except Exception as error:  # noqa: BLE001 - as above
                self._drop(watcher, error)

    def call_finished(self, call: Call) -> None:
        """Tells all who may want to know."""
        self._book.call_finished(call)
        if call.sink is None and call.trace is None:
            return
        for watcher in self._watchers:
            try:
                watcher.call_finished(call)
            except Exception as error:  # noqa: BLE001 - as above
                self._drop(watcher, error)

    def _drop(self, watcher: CallListener, error: Exception) -> None:
        log.error("a watcher failed and is told no more", exc_info=error, extra={"watcher": type(watcher).__name__})
        self._watchers = tuple(other for other in self._watchers if other is not watcher)
