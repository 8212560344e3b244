"""The page: a report in one HTML file that asks the network for nothing and runs no script."""

import base64
import hashlib
from dataclasses import dataclass
from functools import cache
from importlib import resources

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from latentry_serving.drift_cli import report_charts, report_timelines
from latentry_serving.drift_cli.report_svg import Figure, Svg
from latentry_serving.drift_cli.report_types import Report, State, TensorView

_TEMPLATE, _STYLE = "report.html.jinja", "report.css"
_SIGNS = {State.OK: "✓", State.BAD: "✕", State.UNKNOWN: "?"}


@dataclass(frozen=True, slots=True)
class _Lane:
    name: str
    state: State
    words: str
    svg: Svg


def rendered(report: Report) -> str:
    """The page as text. Everything that comes from files is escaped; only drawings made here are marks."""
    style = _packaged(_STYLE)
    return (
        _environment()
        .get_template(_TEMPLATE)
        .render(
            report=report,
            # The style is the only thing the page may use: its hash stands in the page's content security policy.
            style=Markup(style),  # noqa: S704 - a file of this package
            style_hash=base64.b64encode(hashlib.sha256(style.encode()).digest()).decode(),
            sign=_SIGNS[report.headline.state],
            lanes=_lanes(report),
            model=_model_figures(report),
            drifted=[(tensor, _dimensions(tensor)) for tensor in report.tensors if tensor.state is State.BAD],
            steady=[(tensor, _dimensions(tensor)) for tensor in report.tensors if tensor.state is not State.BAD],
            timelines=_timelines(report),
        )
    )


def _lanes(report: Report) -> list[_Lane]:
    named = [(tensor.name, tensor.state, tensor.lane, report.columns) for tensor in report.tensors]
    named += [(f"health of {part.name}", part.state, part.lane, part.columns) for part in report.parts]
    return [
        _Lane(
            name,
            state,
            report_timelines.lane_words(lane, columns),
            report_timelines.lane(name, lane, columns, report.rows),
        )
        for name, state, lane, columns in named
    ]


def _model_figures(report: Report) -> list[Figure]:
    figures = [report_charts.projection_figure(view) for view in report.projections]
    if report.kl is not None:
        figures.append(report_charts.kl_figure(report.kl))
    if report.errors is not None:
        figures.append(report_charts.error_figure(report.errors))
    return figures


def _dimensions(tensor: TensorView) -> list[Figure]:
    alone = tensor.dimensions == 1
    return [
        report_charts.dimension_figure(view, "Values" if alone else f"Dimension {view.dimension}")
        for view in tensor.shown
    ]


def _timelines(report: Report) -> list[tuple[TensorView, list[Figure]]]:
    drawn = (report_timelines.p_figure, report_timelines.cusum_figure)
    return [(tensor, [figure(tensor, report.columns) for figure in drawn]) for tensor in report.tensors]


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FunctionLoader(_packaged),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["drawing"] = _drawing
    environment.globals["states"] = report_timelines.STATES
    return environment


def _drawing(svg: Svg) -> Markup:
    return Markup(str(svg))  # noqa: S704 - an element tree escapes what it holds


def _packaged(name: str) -> str:
    return resources.files("latentry_serving.drift_cli").joinpath(name).read_text(encoding="utf-8")
