"""Watches live traffic: windows, p-values, rules, alarm states. The clock is an argument, in Unix seconds.

An alarm of a statistic begins with the window in which the Shewhart rule or the CUSUM signals. It ends when
``clean_windows`` judged windows in a row were without signal: p above alpha, and the CUSUM back at zero after it
signalled (see ``rules.Cusum``). A window that could not be judged neither ends nor begins anything. When nothing was
judged for twice ``max_wait_s`` the state is "insufficient data", unless an alarm is on.
"""

from dataclasses import asdict
from math import log

import numpy as np
from numpy.typing import ArrayLike

from latentry_serving.contract.errors import InvalidInput, Problem
from latentry_serving.drift import budget, judge, order
from latentry_serving.drift.keep import State, kept_alarm, kept_score, restored_alarm, restored_score
from latentry_serving.drift.profile import Profile, TensorProfile
from latentry_serving.drift.rules import Cusum, CusumState, Shewhart
from latentry_serving.drift.scores import COUNTED
from latentry_serving.drift.types import (
    CHUNK,
    Alarm,
    AlarmState,
    Rule,
    Settings,
    Statistic,
    StatisticStatus,
    TensorStatus,
    Thresholds,
    WindowResult,
    WindowScore,
    WindowSummary,
)
from latentry_serving.drift.windows import Filled, Window

_COUNTED_SHARE = 0.25  # a counter that has never counted anything spends nothing; a broken one is far beyond any alpha
_MEMORY = 0.2  # weight of the newest window in the mean window duration
_STEP = 1.1  # durations are rounded down to its powers: few thresholds are ever needed, and they are remembered
_SLACK = 1.2  # thresholds are found again when a duration leaves its step by so much; chance alone moves it by less
_SHORTEST_S = 1e-3
_LARGEST_SHARED = 0.24


class Detector:
    """Judges the tensors of one model on one replica.

    Args:
        profile: fitted on undrifted traffic.
        settings: the window must not exceed that of the calibration.

    Raises:
        InvalidInput: settings out of range, a window larger than the profile's, a run time shorter than 10 windows.
    """

    def __init__(self, profile: Profile, settings: Settings) -> None:
        _check(profile, settings)
        self._settings = settings
        self._watches = {name: _Watch(tensor, settings) for name, tensor in profile.tensors.items()}
        self._durations: dict[str, float] = {}
        self._share()

    @property
    def tensors(self) -> tuple[str, ...]:
        return tuple(self._watches)

    @property
    def budget(self) -> budget.Budget:
        """How the whole model's budget is shared out at present; names are ``tensor/statistic``."""
        return self._budget

    def update(self, tensor: str, batch: ArrayLike, now_s: float) -> list[WindowResult]:
        """Takes vectors [n, d] or one vector [d] of a tensor, all of about ``now_s``; returns the windows they closed.

        Raises:
            InvalidInput: the tensor is not in the profile, or has another number of dimensions.
        """
        watch = self._watch(tensor)
        rows = watch.rows(batch)
        results = [self._judge(watch, filled) for filled in watch.take_overdue(now_s)]
        slot = int(watch.profile.slot_of_hour[order.hour_of(np.array(now_s))])
        for filled in watch.window.add(rows, now_s, slot):
            watch.filled(now_s)
            results.append(self._judge(watch, filled))
        return results

    def tick(self, now_s: float) -> list[WindowResult]:
        """Closes the windows that have waited ``max_wait_s``; call it every few seconds whatever the traffic."""
        overdue = [(watch, filled) for watch in self._watches.values() for filled in watch.take_overdue(now_s)]
        return [self._judge(watch, filled) for watch, filled in overdue]

    def status(self, now_s: float) -> tuple[TensorStatus, ...]:
        """How everything stands."""
        return tuple(watch.status(now_s) for watch in self._watches.values())

    def state(self) -> State:
        """What is to be kept across a restart, as JSON: everything but the open windows."""
        return {"durations": dict(self._durations), "tensors": {n: w.state() for n, w in self._watches.items()}}

    def restore(self, state: State) -> None:
        """Goes on from a kept state, with empty windows.

        Raises:
            ValueError: the state is of another profile, or none; this detector must not be used then.
        """
        try:
            tensors = state["tensors"]
            if tensors.keys() != self._watches.keys():
                raise ValueError(f"the state is of {', '.join(tensors)}, not of {', '.join(self._watches)}")
            self._durations = {str(name): float(s) for name, s in state["durations"].items() if name in tensors}
            self._share()
            for name, watch in self._watches.items():
                watch.restore(tensors[name])
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"no state of a detector: {error!r}") from error

    def _watch(self, tensor: str) -> "_Watch":
        if tensor not in self._watches:
            raise InvalidInput.one(
                "drift",
                path=tensor,
                problem="the profile has no such tensor",
                remedy=f"name one of {', '.join(self._watches)}, or fit a profile with it",
            )
        return self._watches[tensor]

    def _judge(self, watch: "_Watch", filled: Filled) -> WindowResult:
        name = watch.profile.name
        lasted = max(filled.closed_s - filled.opened_s, _SHORTEST_S)
        before = self._durations.get(name)
        self._durations[name] = lasted if before is None else (1 - _MEMORY) * before + _MEMORY * lasted
        if not watch.window_s / _SLACK <= self._durations[name] <= watch.window_s * _STEP * _SLACK:
            self._share()
        return watch.judge(filled)

    def _share(self) -> None:
        """Shares the budget at the window durations seen; a tensor not seen yet is taken to need ``max_wait_s``."""
        longest = self._settings.expected_run_time_s / budget.FEWEST_WINDOWS
        watches = list(self._watches.values())
        for watch in watches:
            watch.window_s = _rounded(self._durations.get(watch.profile.name, self._settings.max_wait_s))
        names = [f"{w.profile.name}/{s}" for w in watches for s in w.statistics]
        counted = [s in COUNTED for w in watches for s in w.statistics]
        self._budget = budget.share(
            self._settings.expected_run_time_s,
            [min(w.window_s, longest) for w in watches for _ in w.statistics],
            names,
            self._settings.replicas,
            weights=np.where(counted, _COUNTED_SHARE, 1.0),
            correlation=budget.of_tensors([watch.correlation for watch in watches]),
        )
        shared = [min(w.profile.shared(s), _LARGEST_SHARED) for w in watches for s in w.statistics]
        thresholds = iter(self._budget.thresholds(shared))
        for watch in watches:
            watch.tune([next(thresholds) for _ in watch.statistics])


class _Watch:
    """One tensor: its open window, its rules, its alarms."""

    def __init__(self, profile: TensorProfile, settings: Settings) -> None:
        self.profile = profile
        self.statistics = profile.statistics
        self.window = Window(profile.kernel(), settings.window, profile.slots, settings.chunk)
        self.window_s = settings.max_wait_s
        self.correlation = budget.correlation_of(profile.left_out_p)
        self._settings = settings
        self._thresholds: list[Thresholds] = []
        count = len(self.statistics)
        self._shewhart = Shewhart(np.full(count, 0.5))  # both are tuned before the first window
        self._cusum = Cusum(np.full(count, 0.5), np.ones(count), count)
        self._running_since = [0.0] * count
        self._last: list[WindowScore | None] = [None] * count
        self._judged = [0] * count
        self._last_judged_s = [-np.inf] * count
        self._clean = [0] * count
        self._alarms: list[Alarm | None] = [None] * count
        self._windows = 0
        self._insufficient = 0
        self._first_look_s: float | None = None
        self._last_full_s: float | None = None

    def rows(self, batch: ArrayLike) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
        """The batch as float32 [n, d]."""
        rows = np.asarray(batch, np.float32)
        d = self.profile.reference.dimensions
        if rows.ndim == 1:
            rows = rows[:, None] if d == 1 else rows[None, :]
        if rows.ndim != 2 or rows.shape[1] != d:
            raise InvalidInput.one(
                "drift",
                path=self.profile.name,
                problem=f"vectors of shape {np.shape(batch)}; the profile's have {d} dimensions",
                remedy="fit the profile on this model's own output",
            )
        return rows

    def tune(self, thresholds: list[Thresholds]) -> None:
        alpha, k, h = (np.array([getattr(t, n) for t in thresholds]) for n in ("alpha", "cusum_k", "cusum_h"))
        self._thresholds = thresholds
        self._shewhart = Shewhart(alpha)
        self._cusum.tune(k, h)

    def filled(self, now_s: float) -> None:
        self._last_full_s = now_s

    def take_overdue(self, now_s: float) -> list[Filled]:
        """The open window, closed, if it has waited long enough."""
        if self._first_look_s is None:
            self._first_look_s = now_s
        opened = self.window.opened_s
        return [] if opened is None or now_s - opened < self._settings.max_wait_s else [self.window.close(now_s)]

    def judge(self, filled: Filled) -> WindowResult:
        scores = {s.statistic: s for s in judge.judged(self.profile, filled, self._settings.min_window)}
        summary = judge.summary(self.profile, filled)
        p = np.array([scores[s].p if s in scores else np.nan for s in self.statistics])
        signals = self._shewhart.alarms(p)
        evidence = self._cusum.update(p)
        raised: list[Alarm] = []
        ended: list[Statistic] = []
        for i, statistic in enumerate(self.statistics):
            if statistic not in scores:
                continue
            self._note(i, scores[statistic], filled)
            signal = bool(signals[i] or self._cusum.alarmed[i])
            self._clean[i] = 0 if signal else self._clean[i] + 1
            if signal and self._alarms[i] is None:
                alarm = self._alarm(i, float(p[i]), float(evidence[i]), by_cusum=not signals[i], window=summary)
                self._alarms[i] = alarm
                raised.append(alarm)
            elif self._alarms[i] is not None and self._clean[i] >= self._settings.clean_windows:
                self._alarms[i] = None
                ended.append(statistic)
        self._windows += bool(scores)
        self._insufficient += not scores
        missing = tuple(s for s in self.statistics if s not in scores)
        return WindowResult(summary, tuple(scores.values()), missing, tuple(raised), tuple(ended))

    def state(self) -> State:
        return {
            "statistics": [statistic.value for statistic in self.statistics],
            "cusum": asdict(self._cusum.state()),
            "running_since": list(self._running_since),
            "last": [kept_score(score) for score in self._last],
            "judged": list(self._judged),
            "last_judged_s": [None if np.isinf(s) else s for s in self._last_judged_s],
            "clean": list(self._clean),
            "alarms": [kept_alarm(alarm) for alarm in self._alarms],
            "windows": self._windows,
            "insufficient": self._insufficient,
            "first_look_s": self._first_look_s,
            "last_full_s": self._last_full_s,
        }

    def restore(self, state: State) -> None:
        """Raises ValueError, KeyError or TypeError when the state is none of this watch's."""
        if state["statistics"] != [statistic.value for statistic in self.statistics]:
            raise ValueError(f"the state is of other statistics of {self.profile.name}: {state['statistics']}")
        self._cusum.restore(CusumState(**state["cusum"]))
        self._running_since = [float(s) for s in state["running_since"]]
        self._last = [restored_score(score) for score in state["last"]]
        self._judged = [int(n) for n in state["judged"]]
        self._last_judged_s = [-np.inf if s is None else float(s) for s in state["last_judged_s"]]
        self._clean = [int(n) for n in state["clean"]]
        self._alarms = [restored_alarm(a, self.profile.name, self.profile.reference) for a in state["alarms"]]
        self._windows, self._insufficient = int(state["windows"]), int(state["insufficient"])
        self._first_look_s, self._last_full_s = state["first_look_s"], state["last_full_s"]

    def _note(self, i: int, score: WindowScore, filled: Filled) -> None:
        self._last[i] = score
        self._judged[i] += 1
        self._last_judged_s[i] = filled.closed_s
        if self._cusum.windows[i] <= 1:
            self._running_since[i] = filled.opened_s

    def _alarm(self, i: int, p: float, evidence: float, *, by_cusum: bool, window: WindowSummary) -> Alarm:
        limits = self._thresholds[i]
        return Alarm(
            tensor=self.profile.name,
            statistic=self.statistics[i],
            rule=Rule.CUSUM if by_cusum else Rule.SHEWHART,
            since_s=self._running_since[i] if by_cusum else window.opened_s,
            raised_s=window.closed_s,
            value=evidence if by_cusum else p,
            threshold=limits.cusum_h if by_cusum else limits.alpha,
            window=window,
        )

    def status(self, now_s: float) -> TensorStatus:
        first = now_s if self._first_look_s is None else self._first_look_s
        since = now_s - (first if self._last_full_s is None else self._last_full_s)
        return TensorStatus(
            self.profile.name,
            self.window.held,
            self.window.opened_s,
            self._windows,
            self._insufficient,
            self._last_full_s,
            since,
            self.window_s,
            tuple(self._statistic(i, now_s) for i in range(len(self.statistics))),
        )

    def _statistic(self, i: int, now_s: float) -> StatisticStatus:
        stale = now_s - self._last_judged_s[i] > 2 * self._settings.max_wait_s
        state = AlarmState.INSUFFICIENT_DATA if stale else AlarmState.OK
        alarm = self._alarms[i]
        return StatisticStatus(
            self.statistics[i],
            state if alarm is None else AlarmState.ALARM,
            self._last[i],
            float(self._cusum.sums[i]),
            self._thresholds[i],
            self._judged[i],
            alarm,
        )


def _rounded(seconds: float) -> float:
    """To a power of _STEP, downwards."""
    return float(_STEP ** np.floor(log(max(seconds, _SHORTEST_S)) / log(_STEP) + 1e-9))


def _check(profile: Profile, settings: Settings) -> None:
    problems = []
    smallest = min(t.window for t in profile.tensors.values()) if profile.tensors else 0
    if not profile.tensors:
        problems.append(Problem("profile", "it watches no tensor", "fit it with at least one"))
    elif not 2 <= settings.window <= smallest:
        remedy = f"write 2 to {smallest}, or fit a profile with a larger window"
        problems.append(Problem("window", f"{settings.window}; the profile was calibrated for {smallest}", remedy))
    if not 2 <= settings.min_window <= settings.window:
        problems.append(Problem("minWindow", f"{settings.min_window} vectors", f"write 2 to {settings.window}"))
    if settings.clean_windows < 1:
        problems.append(Problem("cleanWindows", f"{settings.clean_windows}", "write 1 or more"))
    if not settings.max_wait_s > 0:
        problems.append(Problem("maxWait", f"{settings.max_wait_s:g} s", "write more than 0s"))
    if not 1 <= settings.chunk <= CHUNK:
        problems.append(Problem("chunk", f"{settings.chunk} vectors", f"write 1 to {CHUNK}"))
    if problems:
        raise InvalidInput("drift settings", problems)
