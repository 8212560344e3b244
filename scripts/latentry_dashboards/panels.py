"""Panels as every dashboard has them: a title with its unit, a line that says what is seen, queries with legends."""

import string
from collections.abc import Iterable, Sequence
from typing import Any

from grafana_foundation_sdk.builders import bargauge, common, heatmap, prometheus, stat, statetimeline, timeseries
from grafana_foundation_sdk.builders.dashboard import ThresholdsConfig
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models.common import (
    BarGaugeDisplayMode,
    BigValueGraphMode,
    GraphThresholdsStyleMode,
    LegendDisplayMode,
    LegendPlacement,
    StackingMode,
    VisibilityMode,
    VizOrientation,
)
from grafana_foundation_sdk.models.dashboard import DataSourceRef, Panel, Threshold, ThresholdsMode
from grafana_foundation_sdk.models.heatmap import HeatmapColorMode
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

SOURCE = DataSourceRef(type_val="prometheus", uid="$datasource")
HEIGHT = 8
THIRD, HALF, QUARTER = 8, 12, 6
GOOD_ABOVE = ((None, "red"), (0.0, "orange"), (0.25, "green"))
"""Of what is left of a budget."""
BAD_FROM_ONE = ((None, "green"), (1.0, "red"))

Query = tuple[str, str]
"""PromQL and legend."""
Panels = Sequence[Builder[Panel]]
Rows = Sequence[tuple[str, Panels]]
"""Title and panels of each."""
Steps = Sequence[tuple[float | None, str]]


def lines(
    title: str,
    unit: str,
    text: str,
    *queries: Query,
    span: int = THIRD,
    steps: Steps | None = None,
    stacked: bool = False,
    exemplars: bool = False,
    most: float | None = None,
    signed: bool = False,
) -> Builder[Panel]:
    """Figures over time.

    Args:
        steps: thresholds, drawn as lines.
        exemplars: of calls, which lead to their traces.
        most: end of the axis.
        signed: whether values may be below 0.
    """
    panel = _filled(timeseries.Panel(), title, unit, text, queries, span, exemplars=exemplars)
    panel.line_width(1).fill_opacity(20 if stacked else 0).show_points(VisibilityMode.NEVER)
    if not signed:
        panel.min(0)
    panel.legend(
        common.VizLegendOptions()
        .display_mode(LegendDisplayMode.LIST)
        .placement(LegendPlacement.BOTTOM)
        .show_legend(True)
    )
    if most is not None:
        panel.max(most)
    if stacked:
        panel.stacking(common.StackingConfig().mode(StackingMode.NORMAL))
    if steps is not None:
        panel.thresholds(_thresholds(steps))
        panel.thresholds_style(common.GraphThresholdsStyleConfig().mode(GraphThresholdsStyleMode.DASHED))
    return panel


def figure(
    title: str, unit: str, text: str, *queries: Query, span: int = QUARTER, steps: Steps | None = None
) -> Builder[Panel]:
    """The latest value, large."""
    panel = _filled(stat.Panel(), title, unit, text, queries, span, instant=True)
    panel.graph_mode(BigValueGraphMode.NONE).reduce_options(_last())
    if steps is not None:
        panel.thresholds(_thresholds(steps))
    return panel


def bars(
    title: str, unit: str, text: str, *queries: Query, span: int = THIRD, steps: Steps | None = None
) -> Builder[Panel]:
    """The latest values side by side."""
    panel = _filled(bargauge.Panel(), title, unit, text, queries, span, instant=True)
    panel.display_mode(BarGaugeDisplayMode.BASIC).orientation(VizOrientation.HORIZONTAL).reduce_options(_last())
    if steps is not None:
        panel.thresholds(_thresholds(steps))
    return panel


def states(
    title: str, unit: str, text: str, *queries: Query, span: int = THIRD, steps: Steps | None = None
) -> Builder[Panel]:
    """Which states held when."""
    panel = _filled(statetimeline.Panel(), title, unit, text, queries, span)
    return panel.thresholds(_thresholds(steps or BAD_FROM_ONE))


def heat(title: str, unit: str, text: str, query: Query, span: int = HALF) -> Builder[Panel]:
    """Counts per bucket over time."""
    panel = _filled(heatmap.Panel(), title, unit, text, (query,), span, heat=True)
    return (
        panel.calculate(False)
        .color(heatmap.HeatmapColorOptions().mode(HeatmapColorMode.SCHEME).scheme("Oranges").steps(64))
        .y_axis(heatmap.YAxisConfig().unit(unit))
        .cell_gap(0)
    )


def _filled(
    panel: Any,
    title: str,
    unit: str,
    text: str,
    queries: Iterable[Query],
    span: int,
    *,
    instant: bool = False,
    exemplars: bool = False,
    heat: bool = False,
) -> Any:
    panel.title(title).description(text).unit(unit).span(span).height(HEIGHT).datasource(SOURCE)
    for letter, (expr, legend) in zip(string.ascii_uppercase, queries, strict=False):
        query = prometheus.Dataquery().expr(expr).legend_format(legend).ref_id(letter)
        if instant:
            query.instant()
        if exemplars:
            query.exemplar(True)
        if heat:
            query.format(PromQueryFormat.HEATMAP)
        panel.with_target(query)
    return panel


def _thresholds(steps: Steps) -> ThresholdsConfig:
    return (
        ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps([Threshold(value=at, color=name) for at, name in steps])
    )


def _last() -> common.ReduceDataOptions:
    return common.ReduceDataOptions().calcs(["lastNotNull"]).values(False)
