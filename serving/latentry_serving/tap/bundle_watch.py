"""The tap's care for its bundle, in a thread beside the traffic: check the files, have the models loaded, probe."""

import logging
import threading
from collections.abc import Callable

from latentry_serving.contract.metrics import BundleState
from latentry_serving.contract.tap_config import TapConfig
from latentry_serving.tap.bundle_source import BundleSource, Stopped
from latentry_serving.tap.compare_desk import CompareDesk
from latentry_serving.tap.model_loading import ModelLoader
from latentry_serving.tap.probes import Prober
from latentry_serving.triton.backoff import Backoff

log = logging.getLogger(__name__)

_JOIN_SECONDS = 5.0
_MOST_RETRY_SECONDS = 30.0


class BundleWatch:
    """Runs from ``start`` to ``stop``; everything else may be read from any thread."""

    def __init__(
        self,
        source: BundleSource,
        config: TapConfig,
        *,
        in_flight: Callable[[], int],
        clock: Callable[[], float],
        unix_offset_s: float,
    ) -> None:
        """
        Args:
            in_flight: requests of users that are under way now.
            clock: monotonic seconds.
            unix_offset_s: Unix time minus the clock.
        """
        self.source = source
        self._settings = config.probes
        self._clock = clock
        self._stop = threading.Event()
        self.loader = ModelLoader(source, config.load, config.upstream_http, self._stop) if config.load else None
        self.prober = Prober(
            source,
            config.probes,
            config.upstream_http,
            in_flight=in_flight,
            clock=clock,
            unix_offset_s=unix_offset_s,
            stop=self._stop,
        )
        self.desk = CompareDesk(source, config.probes, config.upstream_http, in_flight=in_flight, clock=clock)
        """Compares this bundle's embeddings with another's, when told to."""
        self._backoff = Backoff(most_seconds=min(_MOST_RETRY_SECONDS, config.probes.every_seconds))
        self._failures = 0
        self._broken: list[str] = []
        self._probe_due_s = clock()
        self._thread = threading.Thread(target=self._run, name="bundle", daemon=True)

    def start(self) -> None:
        """Begins with the check of the files."""
        self._thread.start()

    def stop(self) -> None:
        """Gives up whatever is under way and returns when the thread has ended."""
        self._stop.set()
        self.prober.abort()
        self.desk.stop()
        if self.loader is not None:
            self.loader.abort()
        if self._thread.is_alive():
            self._thread.join(_JOIN_SECONDS)

    def reasons(self) -> list[str]:
        """Why clients should not be sent here; empty when the bundle is verified, loaded and was probed."""
        for part in (self.source, self.loader, self.prober):
            if part is not None and (found := part.reasons()):
                return [*self._broken, *found]
        return []

    def _run(self) -> None:
        wait_s = 0.0
        try:
            while not self._stop.wait(wait_s):
                wait_s = self._guarded_step()
        except Stopped:
            log.info("bundle watch stopped")

    def _guarded_step(self) -> float:
        try:
            wait_s = self._step()
        except Stopped:
            raise
        except Exception as error:
            log.exception("bundle watch failed")
            self._broken = [f"the watch over the bundle failed: {error!r}; see the tap's log"]
            return _MOST_RETRY_SECONDS
        self._broken = []
        return wait_s

    def _step(self) -> float:
        """Does what is due; seconds until the next step."""
        if self.source.state is BundleState.CHECKING:
            self.source.check(self._stop)
            log.info("bundle checked", extra={"state": self.source.state, "problems": self.source.problems})
        if self.source.state is BundleState.REFUSED:
            return threading.TIMEOUT_MAX
        look_s = self._settings.every_seconds
        if self.loader is not None:
            loads = self.loader.loads.total()
            look_s = self.loader.settle()
            if not self.loader.complete:
                return look_s
            if self.loader.loads.total() > loads:  # other instances of the models than those that were probed
                self._probe_due_s = self._clock()
        if self._clock() >= self._probe_due_s:
            self._probe()
        return max(0.0, min(look_s, self._probe_due_s - self._clock()))

    def _probe(self) -> None:
        passed = self.prober.round()
        self._failures = 0 if passed else self._failures + 1
        wait_s = self._settings.every_seconds
        if not self.prober.accepted:  # nobody is served yet: try again soon
            wait_s = self._backoff.delay_seconds(self._failures)
        self._probe_due_s = self._clock() + wait_s
