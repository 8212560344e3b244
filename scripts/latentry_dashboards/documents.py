"""The three dashboards as JSON: variables, annotations and links around rows of panels."""

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from grafana_foundation_sdk.builders.dashboard import (
    AnnotationQuery,
    Dashboard,
    DashboardLink,
    DatasourceVariable,
    QueryVariable,
    Row,
)
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DashboardLinkType,
    VariableOption,
    VariableRefresh,
    VariableSort,
)

from latentry_dashboards import debug, executive, on_call, queries
from latentry_dashboards.panels import SOURCE, Rows
from latentry_operator.dashboards import OVERVIEW_TAG
from latentry_operator.slo import names
from latentry_serving.contract import metrics

BOARDS: dict[str, tuple[str, str, Callable[[], Rows]]] = {
    "executive": ("Executive", "now-7d", executive.rows),
    "on-call": ("On-call", "now-3h", on_call.rows),
    "debug": ("Debug", "now-1h", debug.rows),
}
"""Key -> title, start of the time range, rows."""
TAG = "latentry"
_ALL = VariableOption(selected=True, text="All", value="$__all")
_VARIABLES = ((names.NAMESPACE, ""), (metrics.MODEL, "namespace"), (metrics.VERSION, "namespace model"))
"""Each with those that narrow it."""


def dashboards() -> dict[str, dict[str, Any]]:
    """Every dashboard by its key."""
    return {key: _document(key, *rest) for key, rest in BOARDS.items()}


def _document(key: str, title: str, since: str, rows: Callable[[], Rows]) -> dict[str, Any]:
    board = (
        Dashboard(f"Latentry / {title}")
        .uid(f"latentry-{key}")
        .tags([TAG, OVERVIEW_TAG])
        .timezone("browser")
        .time(since, "now")
        .refresh("1m" if since != "now-7d" else "15m")
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .readonly()
        .with_variable(DatasourceVariable("datasource").label("Data source").type("prometheus"))
        .link(
            DashboardLink("Latentry")
            .type(DashboardLinkType.DASHBOARDS)
            .tags([OVERVIEW_TAG])
            .as_dropdown(True)
            .include_vars(True)
            .keep_time(True)
        )
        .annotation(
            AnnotationQuery()
            .name("New versions")
            .datasource(SOURCE)
            .enable(True)
            .icon_color("blue")
            .expr(_new_versions())
        )
    )
    for name, narrowed_by in _VARIABLES:
        board.with_variable(_variable(name, narrowed_by.split()))
    for row, panels in rows():
        board.with_row(Row(row))
        for panel in panels:
            board.with_panel(panel)
    document: dict[str, Any] = json.loads(JSONEncoder().encode(board.build()))
    for number, panel in enumerate(document["panels"], 1):
        panel["id"] = number
    for annotation in document["annotations"]["list"]:
        # Grafana has these, its SDK does not.
        annotation |= {"titleFormat": "{{model}} {{version}}", "textFormat": "serves from now on", "step": "60s"}
    return dict(_without_defaults(document))


def _variable(name: str, narrowed_by: Sequence[str]) -> QueryVariable:
    matchers = ",".join(f'{other}=~"${other}"' for other in narrowed_by)
    return (
        QueryVariable(name)
        .label(name.capitalize())
        .datasource(SOURCE)
        .query(f"label_values({metrics.CONNECTIONS}{{{matchers}}}, {name})")
        .current(_ALL)
        .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(VariableSort.ALPHABETICAL_ASC)
        .include_all(True)
        .all_value(".*")
        .multi(name == metrics.VERSION)
    )


def _new_versions() -> str:
    """Versions that have a tap now and had none five minutes ago."""
    now = f"group by (model, version) ({queries.tap(metrics.CONNECTIONS)}"
    return f"{now}) unless {now} offset 5m)"


def _without_defaults(value: Any) -> Iterator[tuple[str, Any]]:
    """Without what is Grafana's default anyway: the documents go into every model's ConfigMap."""
    defaults = {"transparent": False, "repeatDirection": "h", "auto": False, "auto_count": 30, "auto_min": "10s"}
    for name, item in value.items():
        if defaults.get(name, ...) == item or (name == "overrides" and not item):
            continue
        if isinstance(item, dict):
            yield name, dict(_without_defaults(item))
        elif isinstance(item, list):
            yield name, [dict(_without_defaults(one)) if isinstance(one, dict) else one for one in item]
        else:
            yield name, item
