"""What drift looked like: a bounded ring of judged windows for each statistic, read off the monitoring reports.

Reports are read once a second from a thread of its own, so the traffic's loop keeps them unread as before.
"""

import math
import threading
from array import array
from collections.abc import Callable

from latentry_serving.contract.drift_report import DriftReport, DriftState, StatisticDrift
from latentry_serving.contract.history import POINTS, SPACING_SECONDS, DriftHistory, StatisticHistory
from latentry_serving.tap.monitoring import MonitoringDesk

_OPENED, _TIME, _WINDOWS, _P, _EVIDENCE, _ALPHA, _H, _ALARM = range(8)
_WIDTH = 8
_LOOK_SECONDS = 1.0


class _Ring:
    """Points of one statistic, 64 bytes each."""

    def __init__(self) -> None:
        self._values = array("d")
        self._judged = 0

    def opens(self, now_s: float, now: StatisticDrift) -> bool:
        """Whether a window judged now begins a point: the last one is old, or an alarm came or went."""
        values, last = self._values, len(self._values) - _WIDTH
        return (
            last < 0
            or now_s - values[last + _OPENED] >= SPACING_SECONDS
            or (now.state is DriftState.ALARM) != bool(values[last + _ALARM])
        )

    def add(self, now_s: float, now: StatisticDrift, *, opens: bool) -> None:
        """Takes a report of the statistic; without a window judged since the last one it is nothing new."""
        judged = now.windows - self._judged if now.windows >= self._judged else now.windows  # fewer: it began anew
        self._judged = now.windows
        if not judged:
            return
        p = math.nan if now.p_value is None else now.p_value
        values, last = self._values, len(self._values) - _WIDTH
        if opens:
            if last >= (POINTS - 1) * _WIDTH:
                del values[:_WIDTH]
            alarm = now.state is DriftState.ALARM
            values.extend((now_s, now_s, judged, p, now.evidence, now.alpha, now.cusum_h, alarm))
            return
        values[last + _TIME] = now_s
        values[last + _WINDOWS] += judged
        values[last + _P] = p if math.isnan(values[last + _P]) else min(values[last + _P], p)
        values[last + _EVIDENCE] = max(values[last + _EVIDENCE], now.evidence)
        values[last + _ALPHA], values[last + _H] = now.alpha, now.cusum_h

    def after(self, tensor: str, statistic: str, since_s: float) -> StatisticHistory:
        """The points whose latest window is of a later time."""
        times = self._values[_TIME::_WIDTH]
        first = next((i for i, time_s in enumerate(times) if time_s > since_s), len(times))

        def column(field: int) -> "array[float]":
            return self._values[first * _WIDTH + field :: _WIDTH]

        return StatisticHistory(
            tensor=tensor,
            statistic=statistic,
            times_seconds=column(_TIME).tolist(),
            windows=[int(count) for count in column(_WINDOWS)],
            p_values=[None if math.isnan(p) else p for p in column(_P)],
            evidence=column(_EVIDENCE).tolist(),
            alphas=column(_ALPHA).tolist(),
            cusum_h=column(_H).tolist(),
            alarms=[bool(on) for on in column(_ALARM)],
        )


class HistoryBook:
    """The rings of all statistics. One thread adds, any may read."""

    def __init__(self, started_s: float) -> None:
        """
        Args:
            started_s: Unix seconds.
        """
        self._started_s = started_s
        self._rings: dict[tuple[str, str], _Ring] = {}
        self._lock = threading.Lock()

    def add(self, now_s: float, report: DriftReport) -> None:
        """Takes a report of a Unix time; what it says a second time is not kept twice."""
        with self._lock:
            for tensor in report.tensors:
                pairs = [(self._ring(tensor.tensor, one.statistic), one) for one in tensor.statistics]
                opens = any(ring.opens(now_s, one) for ring, one in pairs)  # together, so that their times agree
                for ring, one in pairs:
                    ring.add(now_s, one, opens=opens)

    def after(self, since_s: float, now_s: float) -> DriftHistory:
        """The points later than a Unix time."""
        with self._lock:
            statistics = [ring.after(*key, since_s) for key, ring in sorted(self._rings.items())]
        return DriftHistory(now_seconds=now_s, since_seconds=self._started_s, statistics=statistics)

    def _ring(self, tensor: str, statistic: str) -> _Ring:
        return self._rings.setdefault((tensor, statistic), _Ring())


class HistoryKeeper:
    """Looks at the desk once a second and puts down what is new."""

    def __init__(self, desk: MonitoringDesk, unix_clock: Callable[[], float]) -> None:
        """
        Args:
            unix_clock: seconds since 1970.
        """
        self._desk = desk
        self._unix_clock = unix_clock
        self._book = HistoryBook(unix_clock())
        self._seen: bytes | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="history", daemon=True)

    def start(self) -> None:
        """Begins, where there is anything to watch."""
        if self._desk.watches:
            self._thread.start()

    def stop(self) -> None:
        """Ends it, at once."""
        self._stop.set()

    def after(self, since_s: float) -> DriftHistory:
        """The points later than a Unix time."""
        return self._book.after(since_s, self._unix_clock())

    def look(self) -> None:
        """Puts down what the latest report brings."""
        state = self._desk.state
        if state is self._seen:
            return
        self._seen = state
        report = self._desk.report()
        self._book.add(report.reported_seconds, report.drift)

    def _run(self) -> None:
        while not self._stop.wait(_LOOK_SECONDS):
            self.look()
