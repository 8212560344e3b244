"""From a verdict and the vectors it judged to what a report shows. Pure: no files, no clock, no page."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from latentry_serving.bundle.profile import BundleProfile
from latentry_serving.bundle.tensors import Array
from latentry_serving.contract.operations import EMBEDDING, POSTERIOR_LOG_VARIANCE, POSTERIOR_MEAN, RECONSTRUCTION_ERROR
from latentry_serving.drift_cli import report_vectors, report_windows
from latentry_serving.drift_cli.check import CheckSettings
from latentry_serving.drift_cli.report_types import (
    FEW_DIMENSIONS,
    LONGEST_TEXT,
    MOST_ALARMS,
    MOST_COLUMNS,
    MOST_DIMENSIONS,
    MOST_NOTES,
    MOST_TENSORS,
    AlarmView,
    Column,
    DimensionView,
    ErrorView,
    Headline,
    KlView,
    PartView,
    Projection,
    Report,
    State,
    TensorView,
)
from latentry_serving.drift_cli.show import span
from latentry_serving.drift_cli.verdict import NO_SUCH_HOURS, Drifted, Verdict

_FEWEST_DIRECTIONS = 2


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a report is of.

    Attributes:
        values: [n, d] by tensor name. times_s: [n] Unix seconds or None.
        facts: names and digests of what was judged, for the reader.
    """

    profile: BundleProfile
    verdict: Verdict
    values: Mapping[str, Array]
    times_s: NDArray[np.float64] | None
    settings: CheckSettings
    facts: tuple[tuple[str, str], ...]


def report_of(evidence: Evidence, *, title: str) -> Report:
    """Everything a report shows, bounded in size whatever the inputs."""
    verdict = evidence.verdict
    shape = report_windows.columns([(window.first, window.last) for window in verdict.windows])
    alarms = report_windows.alarm_views(verdict, shape)
    names = _chosen(evidence)
    tensors = tuple(_tensor(evidence, name, shape, alarms) for name in names)
    parts = report_windows.part_views(verdict)
    return Report(
        _short(title),
        _headline(evidence, parts),
        verdict.rows,
        verdict.window,
        len(verdict.windows),
        shape,
        tensors,
        parts,
        _projections(evidence),
        _kl(evidence),
        _errors(evidence),
        tuple((_short(name), _short(value)) for name, value in (*evidence.facts, *_settings(evidence))),
        _limits(evidence, shape, len(names)),
    )


def _watched(evidence: Evidence) -> list[str]:
    return [name for name in evidence.profile.drift.tensors if name in evidence.values]


def _chosen(evidence: Evidence) -> list[str]:
    """Tensors to show: those that drifted first, then the others, in the profile's order."""
    drifted = evidence.verdict.first_by_tensor()
    return sorted(_watched(evidence), key=lambda name: name not in drifted)[:MOST_TENSORS]


def _tensor(evidence: Evidence, name: str, shape: Sequence[Column], alarms: Sequence[AlarmView]) -> TensorView:
    raised = evidence.verdict.first_by_tensor().get(name, [])
    windows = report_windows.of_tensor(evidence.verdict, name)
    since = raised[0].since_row if raised else 0
    lane = report_windows.tensor_lane(windows, shape)
    state = State.BAD if raised else State.OK if State.OK in lane else State.UNKNOWN
    return TensorView(
        name,
        evidence.profile.drift.tensors[name].reference.dimensions,
        state,
        _explanation(raised),
        since,
        bool(raised and raised[0].explanation.dimensions),
        _dimensions(evidence, name, since, raised),
        report_windows.lines(windows, shape, {alarm.explanation.alarm.statistic for alarm in raised}),
        lane,
        tuple(alarm for alarm in alarms if alarm.tensor == name),
    )


def _explanation(raised: Sequence[Drifted]) -> tuple[str, ...]:
    """The clearest alarm's own words, but its times: an offline check counts inputs."""
    if not raised:
        return ()
    told = [line.strip() for line in raised[0].explanation.text().splitlines()]
    return tuple(_short(line) for line in told if not line.startswith(("since:", "dimensions:")))


def _judged_rows(verdict: Verdict) -> int:
    return verdict.rows - verdict.left_over


def _dimensions(evidence: Evidence, name: str, since: int, raised: Sequence[Drifted]) -> tuple[DimensionView, ...]:
    """Those the clearest alarm names; else those whose histograms differ most."""
    tensor = evidence.profile.drift.tensors[name]
    part = slice(since, _judged_rows(evidence.verdict))
    live = evidence.values[name][part]
    reference = report_vectors.expected(tensor, len(live), None if evidence.times_s is None else evidence.times_s[part])
    named = [(c.dimension, c.share) for c in raised[0].explanation.dimensions[:MOST_DIMENSIONS]] if raised else []
    if not named:
        found = report_vectors.differences(tensor, live, reference)
        order = np.argsort(-found, kind="stable")[:FEW_DIMENSIONS]
        total = max(float(found.sum()), 1e-12)
        named = [(int(d), float(found[d]) / total) for d in order if tensor.reference.alive[d]]
    return tuple(report_vectors.dimension_view(tensor, live, reference, d, share) for d, share in named)


def _since(evidence: Evidence, names: Sequence[str], part: str) -> int:
    """The first input of a drift of these tensors, or of ill health of this part; 0 without."""
    drifted = evidence.verdict.first_by_tensor()
    rows = [drifted[name][0].since_row for name in names if name in drifted]
    rows += [window.first for window in evidence.verdict.health if window.part == part]
    return min(rows, default=0)


def _projections(evidence: Evidence) -> tuple[Projection, ...]:
    tensors = evidence.profile.drift.tensors
    wide = [name for name in _watched(evidence) if tensors[name].reference.basis.shape[1] >= _FEWEST_DIRECTIONS]
    if not wide:
        return ()
    name = next((name for name in (POSTERIOR_MEAN, EMBEDDING) if name in wide), wide[0])
    raised = evidence.verdict.first_by_tensor().get(name, [])
    rows = _judged_rows(evidence.verdict)
    reference = report_vectors.expected(
        tensors[name], rows, None if evidence.times_s is None else evidence.times_s[:rows]
    )
    since = raised[0].since_row if raised else None
    return report_vectors.projections(tensors[name], evidence.values[name][:rows], reference, since)


def _kl(evidence: Evidence) -> KlView | None:
    baseline, names = evidence.profile.health.posterior, (POSTERIOR_MEAN, POSTERIOR_LOG_VARIANCE)
    if baseline is None or any(name not in evidence.values for name in names):
        return None
    mean, log_variance = (evidence.values[name][: _judged_rows(evidence.verdict)] for name in names)
    return report_vectors.kl_view(baseline, mean, log_variance, _since(evidence, names, "posterior"))


def _errors(evidence: Evidence) -> ErrorView | None:
    baseline = evidence.profile.health.reconstruction
    if baseline is None or RECONSTRUCTION_ERROR not in evidence.values:
        return None
    errors = evidence.values[RECONSTRUCTION_ERROR][: _judged_rows(evidence.verdict)]
    return report_vectors.error_view(baseline, errors, _since(evidence, [RECONSTRUCTION_ERROR], "reconstruction"))


def _headline(evidence: Evidence, parts: Sequence[PartView]) -> Headline:
    verdict, drifted = evidence.verdict, evidence.verdict.first_by_tensor()
    watched = _watched(evidence)
    unhealthy = [part for part in parts if part.state is State.BAD]
    told: list[str] = []
    if drifted:
        told += _drift_sentences(evidence, drifted, watched)
    for part in unhealthy:
        share = f"{part.unhealthy_windows} of {part.windows} windows"
        told.append(f"Health of {part.name}: unhealthy in {share}: {_short(part.reasons[0])}.")
    if drifted or unhealthy:
        words = "Drift" if drifted else "Unhealthy model"
        return Headline(State.BAD, "Drift, and the model is unhealthy" if drifted and unhealthy else words, tuple(told))
    if verdict.unjudged:
        told.append(f"Nothing could be judged of {_list(verdict.unjudged)}: {NO_SUCH_HOURS}.")
        return Headline(State.UNKNOWN, "Not judged", tuple(told))
    count = len(verdict.windows)
    told.append(
        f"{'The only window' if count == 1 else f'All {count} windows'} of {verdict.window} inputs "
        f"{'looks' if count == 1 else 'look'} like the profile's reference in {_list(watched)}."
    )
    if parts:
        told.append(f"Health of {_list([part.name for part in parts])}: nothing to report.")
    return Headline(State.OK, "No drift", tuple(told))


def _drift_sentences(evidence: Evidence, drifted: Mapping[str, list[Drifted]], watched: Sequence[str]) -> list[str]:
    first = min((alarms[0] for alarms in drifted.values()), key=lambda alarm: (alarm.window, alarm.smallest_p))
    tensor = first.explanation.alarm.tensor
    when = f"since input {first.since_row}" if first.since_row else "from the first input on"
    when += _at(evidence, first.since_row)
    told = [f"{tensor} left the undrifted range first, {when}: looks like {first.explanation.look.sentence}."]
    others = [name for name in drifted if name != tensor]
    if others:
        told.append(f"Also {_list(others)}: {len(drifted)} of {len(watched)} watched tensors drift.")
    return told


def _at(evidence: Evidence, row: int) -> str:
    """A UTC time in brackets, where there are times."""
    return "" if evidence.times_s is None else f" ({_utc(float(evidence.times_s[row]))})"


def _utc(seconds: float) -> str:
    return str(np.datetime64(round(seconds), "s")).replace("T", " ") + " UTC"


def _settings(evidence: Evidence) -> list[tuple[str, str]]:
    verdict, settings = evidence.verdict, evidence.settings
    found = [("inputs", f"{verdict.rows}: {len(verdict.windows)} windows of {verdict.window}")]
    if evidence.times_s is not None:
        found.append(("times", f"{_utc(float(evidence.times_s[0]))} to {_utc(float(evidence.times_s[-1]))}"))
    if settings.expected_run_time_s is not None:
        every = span(settings.expected_run_time_s)
        rate = "" if settings.rate is None else f", at {settings.rate:g} inputs/s"
        found.append(("false alarms", f"one in {every} of undrifted traffic{rate}"))
    else:
        found.append(
            ("false alarms", f"1 of {1 / (settings.false_alarms or 1):.3g} reports on undrifted inputs says drift")
        )
    return found


def _limits(evidence: Evidence, shape: Sequence[Column], shown: int) -> tuple[str, ...]:
    verdict = evidence.verdict
    told = []
    if verdict.left_over:
        told.append(f"{verdict.left_over} inputs at the end fill no window and were not judged.")
    if len(shape) < len(verdict.windows):
        each = shape[0].last_window + 1
        told.append(
            f"Timelines have at most {MOST_COLUMNS} columns: {each} windows are put together in each, with the "
            "smallest p and the largest sum of theirs."
        )
    if len(verdict.alarms) > MOST_ALARMS:
        told.append(f"The first {MOST_ALARMS} of {len(verdict.alarms)} alarms are shown.")
    watched = _watched(evidence)
    if shown < len(watched):
        told.append(f"{shown} of {len(watched)} tensors are shown, those that drift first.")
    noted: dict[str, list[str]] = {}
    for name in watched:
        for note in _notes(evidence, name):
            noted.setdefault(note, []).append(name)
    return (*told, *(_short(f"{_list(names)}: {note}") for note, names in list(noted.items())[:MOST_NOTES]))


def _notes(evidence: Evidence, name: str) -> list[str]:
    """What the fit said, and which windows could not be judged."""
    windows = report_windows.of_tensor(evidence.verdict, name)
    unseen = sum(not window.judged for window in windows)
    told = [f"{unseen} of {len(windows)} windows could not be judged"] if unseen else []
    return told + list(evidence.profile.drift.tensors[name].report.notes)


def _list(names: Sequence[str]) -> str:
    """Names as a sentence has them, few of many."""
    few = [_short(name) for name in names[:MOST_TENSORS]]
    if len(names) > len(few):
        few.append(f"{len(names) - len(few)} more")
    return few[0] if len(few) == 1 else f"{', '.join(few[:-1])} and {few[-1]}"


def _short(text: str) -> str:
    """A text from a file, cut where it would flood the page."""
    return text if len(text) <= LONGEST_TEXT else text[: LONGEST_TEXT - 1] + "…"
