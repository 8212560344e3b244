"""Reference against live in charts: histograms of dimensions, projections, KL per dimension, reconstruction errors."""

from collections.abc import Sequence
from itertools import pairwise

from latentry_serving.drift_cli.report_svg import (
    BOTTOM,
    HEIGHT,
    LEFT,
    RIGHT,
    TOP,
    WIDTH,
    Figure,
    Scale,
    Svg,
    Table,
    label,
    x_scale,
    y_scale,
)
from latentry_serving.drift_cli.report_types import DimensionView, ErrorView, KlView, Projection, Spread

_HALF, _MOST = 1.177, 2.448
"""Radii that hold 50 % and 95 % of a Gaussian in two dimensions: square roots of chi²'s quantiles."""
_REACH = 3.2
"""Of a projection's axes in the reference's standard deviations, at least."""
_SMALLEST = 0.01
"""Share of the difference worth naming."""
_LOW = 66.0
"""Height of a chart of ranges alone."""
_LEGEND = (("reference", "reference"), ("live", "these inputs"))


def _from(row: int) -> str:
    return f"Inputs from {row} on. " if row else ""


def _percent(share: float) -> str:
    return f"{share:.1%}"


def dimension_figure(view: DimensionView, title: str) -> Figure:
    """Paired bars for each bin of the profile where it has several, and under them where the values lie."""
    names = _bin_names(view.edges)
    if view.edges:
        svg = Svg(f"{title}: shares of the reference's bins, reference against live")
        bottom = HEIGHT - BOTTOM - 42
        _bars(svg, view, names, bottom)
    else:
        svg, bottom = Svg(f"{title}: range of the values, reference against live", height=_LOW), -8.0
    _spreads(svg, view, bottom)
    told = [] if view.edges else ["The reference has one value nearly always, so there is one bin"]
    told += [f"{view.share:.0%} of the difference"] if _SMALLEST <= view.share < 1 else []
    told += [f"{_percent(view.outside)} of the values outside the reference's range"] if view.outside else []
    rows = [(n, _percent(r), _percent(v)) for n, r, v in zip(names, view.reference, view.live, strict=True)]
    rows += [
        (word, _spread_number(view.reference_spread, field), _spread_number(view.live_spread, field))
        for word, field in (("0.1 % quantile", "low"), ("mean", "mean"), ("99.9 % quantile", "high"))
    ]
    table = Table(("values", "reference", "these inputs"), tuple(rows))
    return Figure(title, "; ".join(told), svg, _LEGEND, table)


def _bars(svg: Svg, view: DimensionView, names: Sequence[str], bottom: float) -> None:
    top = max(*view.reference, *view.live, 0.2)
    x, y = x_scale(0, len(view.live)), y_scale(0, top * 1.05, bottom)
    svg.y_axis(y, [(v, f"{v:.0%}") for v in y.ticks(3)])
    width = (WIDTH - LEFT - RIGHT) / len(view.live)
    for i, (reference, live) in enumerate(zip(view.reference, view.live, strict=True)):
        for share, css, part in ((reference, "reference", 0.08), (live, "live", 0.5)):
            tip = f"{names[i]}: {css} {_percent(share)}"
            svg.rect(x(i) + part * width, y(share), 0.42 * width, bottom - y(share), css, tip)
    svg.line(LEFT, bottom, WIDTH - RIGHT, bottom, "axis")
    # Every other edge: more do not fit.
    for i, edge in list(enumerate(view.edges, start=1))[:: 2 if len(view.edges) > 5 else 1]:
        svg.text(x(i), bottom + 12, label(edge))


def _bin_names(edges: Sequence[float]) -> list[str]:
    if not edges:
        return ["all values"]
    inner = [f"{label(a)} to {label(b)}" for a, b in pairwise(edges)]
    return [f"up to {label(edges[0])}", *inner, f"above {label(edges[-1])}"]


def _spread_number(spread: Spread | None, field: str) -> str:
    return "no finite value" if spread is None else label(getattr(spread, field))


def _spreads(svg: Svg, view: DimensionView, bottom: float) -> None:
    """Two bars on one axis in raw units: quantiles .001 to .999, and the mean."""
    shown = [s for s in (view.reference_spread, view.live_spread) if s is not None]
    low, high = min(s.low for s in shown), max(s.high for s in shown)
    if not high > low:
        low, high = low - 0.5, high + 0.5
    x = x_scale(low, high)
    for spread, css, row in ((view.reference_spread, "reference", 0), (view.live_spread, "live", 1)):
        if spread is None:
            continue
        middle = bottom + 24 + 12 * row
        tip = f"{css}: {label(spread.low)} to {label(spread.high)}, mean {label(spread.mean)}"
        svg.rect(x(spread.low), middle - 2.5, max(x(spread.high) - x(spread.low), 2), 5, css, tip)
        svg.circle(x(spread.mean), middle, 4, f"{css} mean", tip)
    ticks = x.ticks(4)
    for value in ticks:
        svg.line(x(value), bottom + 44, x(value), bottom + 47, "axis")
        svg.text(x(value), bottom + 57, label(value))
    svg.line(LEFT, bottom + 44, WIDTH - RIGHT, bottom + 44, "axis")


def projection_figure(view: Projection) -> Figure:
    """Points over ellipses of the reference's moments."""
    first, second = view.directions
    svg = Svg(f"{view.tensor} along principal directions {first} and {second}")
    points = (*view.before, *view.after)
    x = _axis_of([p[0] for p in points], view.centre[0], view.deviation[0], vertical=False)
    y = _axis_of([p[1] for p in points], view.centre[1], view.deviation[1], vertical=True)
    svg.y_axis(y)
    unit_x, unit_y = abs(x(x.low + 1) - x(x.low)), abs(y(y.low + 1) - y(y.low))
    for radius, share in ((_MOST, "95 %"), (_HALF, "50 %")):
        rx, ry = (radius * d * unit for d, unit in zip(view.deviation, (unit_x, unit_y), strict=True))
        svg.ellipse(x(view.centre[0]), y(view.centre[1]), rx, ry, "reference area", f"{share} of the reference")
    for group, css in ((view.before, "live"), (view.after, "bad")):
        for point in group:
            svg.circle(x(point[0]), y(point[1]), 2, f"{css} point")
    svg.x_axis(x, f"direction {first} (up: direction {second})")
    legend = [("reference", "reference: 50 % and 95 %, were it Gaussian"), ("live", "these inputs")]
    if view.after:
        legend = (
            [legend[0], ("live", "before the drift"), ("bad", "since")]
            if view.before
            else [legend[0], ("bad", "these inputs: all since the drift")]
        )
    shown = len(points)
    note = f"{shown} of {view.of} inputs, evenly taken, all finite." if shown < view.of else "All judged inputs."
    return Figure(f"{view.tensor} along directions {first} and {second}", note, svg, tuple(legend), _moments(view))


def _axis_of(values: Sequence[float], centre: float, deviation: float, *, vertical: bool) -> Scale:
    """Around the reference, wide enough for all but the outermost points, which lie at its edge."""
    ordered = sorted(values)
    cut = len(ordered) // 200
    ends = (ordered[cut], ordered[-1 - cut]) if ordered else (centre, centre)
    low, high = min(ends[0], centre - _REACH * deviation), max(ends[1], centre + _REACH * deviation)
    return y_scale(low, high) if vertical else x_scale(low, high)


def _moments(view: Projection) -> Table:
    rows = [("reference", *(label(c) for c in view.centre), *(label(d) for d in view.deviation))]
    for name, points in (
        ("inputs before the drift" if view.after else "inputs", view.before),
        ("inputs since the drift", view.after),
    ):
        if points:
            axes = list(zip(*points, strict=True))
            means = [sum(axis) / len(axis) for axis in axes]
            spreads = [
                (sum((v - mean) ** 2 for v in axis) / len(axis)) ** 0.5 for axis, mean in zip(axes, means, strict=True)
            ]
            rows.append((name, *(label(v) for v in (*means, *spreads))))
    first, second = view.directions
    words = tuple(f"{what}, direction {d}" for what in ("mean", "deviation") for d in (first, second))
    return Table(("of", *words), tuple(rows))


def kl_figure(view: KlView) -> Figure:
    """Paired bars for each latent dimension."""
    svg = Svg("KL per latent dimension, reference against live")
    x, y = x_scale(0, len(view.dimensions)), y_scale(0, max(*view.reference, *view.live, 1e-3) * 1.05)
    svg.y_axis(y)
    width = (WIDTH - LEFT - RIGHT) / len(view.dimensions)
    bottom = HEIGHT - BOTTOM
    for i, (reference, live) in enumerate(zip(view.reference, view.live, strict=True)):
        for value, css, part in ((reference, "reference", 0.08), (live, "live", 0.5)):
            tip = f"dimension {view.dimensions[i]}: {css} {value:.3g} nats"
            svg.rect(x(i) + part * width, y(value), 0.42 * width, bottom - y(value), css, tip)
    each = -(-len(view.dimensions) // 16)
    ticks = [(i + 0.5, str(d)) for i, d in enumerate(view.dimensions) if i % each == 0]
    svg.x_axis(x, "latent dimension (up: nats per sample)", ticks)
    note = _from(view.since_row) + (
        f"Total {label(view.live_total)} nats, {label(view.reference_total)} in the reference; "
        f"{view.live_active} active units, {view.reference_active} in the reference."
    )
    if len(view.dimensions) < view.latents:
        note += f" The {len(view.dimensions)} largest of {view.latents} dimensions."
    rows = [(str(d), label(r), label(v)) for d, r, v in zip(view.dimensions, view.reference, view.live, strict=True)]
    table = Table(("dimension", "reference, nats", "these inputs, nats"), tuple(rows))
    return Figure("KL per dimension", note, svg, _LEGEND, table)


def error_figure(view: ErrorView) -> Figure:
    """The distribution of reconstruction errors, with validation's 95th percentile and the anomaly threshold."""
    svg = Svg("Reconstruction error, reference against live")
    x = x_scale(view.edges[0], view.edges[-1], logarithmic=view.logarithmic)
    y = y_scale(0, max(*view.reference, *view.live) * 1.05)
    svg.y_axis(y, [(v, f"{v:.0%}" if v >= 0.01 or v == 0 else _percent(v)) for v in y.ticks()])
    bottom, names = HEIGHT - BOTTOM, _bin_names(view.edges[1:-1])
    for i, (reference, live) in enumerate(zip(view.reference, view.live, strict=True)):
        left, right = x(view.edges[i]), x(view.edges[i + 1])
        for share, css in ((reference, "reference"), (live, "live outline")):
            tip = f"{names[i]}: {css.split()[0]} {_percent(share)}"
            svg.rect(left, y(share), right - left - 0.6, bottom - y(share), css, tip)
    for value, words in ((view.tail, "p95"), (view.threshold, "anomaly")):
        svg.line(x(value), TOP, x(value), bottom, "limit", f"{words}: {label(value)}")
        svg.text(x(value) + (-3 if words == "p95" else 3), TOP + 8, words, "name", "end" if words == "p95" else "start")
    svg.x_axis(x, "reconstruction error" + (", logarithmic" if view.logarithmic else ""))
    note = _from(view.since_row) + (
        f"p95 is {label(view.live_tail)}, {label(view.tail)} in validation. {_percent(view.anomalies)} lie beyond the "
        f"anomaly threshold {label(view.threshold)}, where {_percent(view.expected_anomalies)} are expected."
    )
    if view.non_finite:
        note += f" {view.non_finite} errors are not finite and left out."
    rows = [(n, _percent(r), _percent(v)) for n, r, v in zip(names, view.reference, view.live, strict=True)]
    table = Table(("error", "reference", "these inputs"), tuple(rows))
    return Figure(
        "Reconstruction error", note, svg, (*_LEGEND, ("limit", "validation's p95; anomaly threshold")), table
    )
