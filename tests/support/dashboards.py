"""Every query of a Grafana dashboard: of panels, in rows too, of variables and of annotations."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[2] / "manifests" / "grafana"
_LABEL_VALUES = re.compile(r"label_values\((?P<selector>.+), *(?P<label>\w+)\)")
_DURATIONS = {"__rate_interval": "5m", "__interval": "1m", "__range": "1h"}


def every_panel(dashboard: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """All panels that show something, those of collapsed rows too."""
    for panel in dashboard["panels"]:
        if panel["type"] == "row":
            yield from panel.get("panels", ())
        else:
            yield panel


def every_query(dashboard: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(panel, PromQL) of everything that is asked; of a variable the query that gives its values. With the dashboard's
    variables still in it: see :func:`substituted`."""
    found = [(panel["title"], target["expr"]) for panel in every_panel(dashboard) for target in panel["targets"]]
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query":
            match = _LABEL_VALUES.fullmatch(variable["query"])
            assert match, f"variable {variable['name']} asks for something else than label_values"
            found.append((f"variable {variable['name']}", f"group by ({match['label']}) ({match['selector']})"))
    found += [(f"annotation {one['name']}", one["expr"]) for one in dashboard["annotations"]["list"] if "expr" in one]
    return found


def substituted(expr: str, **values: str) -> str:
    """The query as Grafana sends it: ``values`` for the dashboard's variables, ``.*`` for those not given."""
    known = {"namespace": ".*", "model": ".*", "version": ".*"} | values | _DURATIONS
    return re.sub(r"\$(\w+)", lambda match: known[match[1]], expr)
