"""The Grafana dashboards. Covered: every query parses, names nothing that nobody exports, and selects by the variables;
titles with units, descriptions, legends, no panel over another; each metric of the tap is shown somewhere; a model's
own copies; what is shipped is what is generated (test_install_chart) and needs no SDK."""

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from dashboards import FOLDER, every_panel, every_query, substituted

from latentry_operator import dashboards as shipped
from latentry_operator.slo import names
from latentry_serving.contract import metrics, triton_metrics

ROOT = Path(__file__).parents[3]
DASHBOARDS = {key: json.loads((FOLDER / f"{key}.json").read_text()) for key in shipped.KEYS}
OTHERS = {
    "ALERTS", "container_cpu_usage_seconds_total", "container_memory_working_set_bytes",
    "kube_pod_container_status_restarts_total", "process_cpu_seconds_total", "process_resident_memory_bytes",
    "process_open_fds", "process_max_fds",
}  # fmt: skip
"""Of Prometheus itself, the kubelet, kube-state-metrics and every Prometheus client."""

each = pytest.mark.parametrize("key", shipped.KEYS)


def ours() -> set[str]:
    """Metrics that the tap exports, as their names in queries."""
    found = {value for name, value in vars(metrics).items() if name.isupper() and isinstance(value, str)}
    found = {name for name in found if name.startswith("latentry_")}
    histograms = {metrics.REQUEST_DURATION_SECONDS, metrics.FIRST_RESPONSE_SECONDS}
    return found | {f"{name}_bucket" for name in histograms}


def recorded() -> set[str]:
    found = {value for name, value in vars(names).items() if name.isupper() and isinstance(value, str)}
    return {name for name in found if name.startswith("latentry:")} | {names.errors_ratio("5m")}


def operators() -> set[str]:
    """Names of the operator's metrics, from the code that exports them."""
    runtime = ROOT / "operator" / "latentry_operator" / "runtime"
    texts = (
        node.value
        for path in runtime.glob("*metrics.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    )
    return {text for text in texts if re.fullmatch(r"latentry_operator_\w+", text)}


def metric_names(expr: str) -> set[str]:
    """What a query reads: words before a brace or a range, and bare ones, that are neither functions nor labels."""
    plain = re.sub(r'"[^"]*"', '""', expr)
    plain = re.sub(r"\b(by|on|without|group_left|group_right|ignoring) *\([^)]*\)", " ", plain)
    plain = re.sub(r"\{[^}]*\}", "{}", plain)
    plain = re.sub(r"\[[^]]*\]", "", plain)
    words = re.findall(r"[a-zA-Z_:][\w:]*(?! *\(|\w)", plain)
    return {word for word in words if not re.fullmatch(r"offset|unless|and|or|by|\d*[smhde]\d*|[0-9.]+e\d+", word)}


@pytest.mark.parametrize("key", shipped.KEYS)
def test_every_query_parses(key: str, tmp_path: Path) -> None:
    queries = every_query(DASHBOARDS[key])
    assert len(queries) > 15
    rules = [
        {"record": f"query:{number}", "expr": substituted(expr, model="digits-vae")}
        for number, (_, expr) in enumerate(queries)
    ]
    file = tmp_path / "rules.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": key, "rules": rules}]}))
    done = subprocess.run(["promtool", "check", "rules", str(file)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(rules)} rules found" in done.stdout


@each
def test_every_name_is_exported_by_somebody(key: str) -> None:
    known = ours() | recorded() | operators() | set(triton_metrics.KEPT) | OTHERS
    for panel, expr in every_query(DASHBOARDS[key]):
        unknown = metric_names(substituted(expr)) - known
        assert not unknown, f"{panel}: {expr}"


@each
def test_every_query_follows_the_variables(key: str) -> None:
    for panel, expr in every_query(DASHBOARDS[key]):
        if not panel.startswith(("variable", "GPU devices")):
            assert "$model" in expr, panel
            assert "$namespace" in expr, panel


def test_every_metric_of_the_tap_is_shown_somewhere() -> None:
    shown = {name for board in DASHBOARDS.values() for _, expr in every_query(board) for name in metric_names(expr)}
    histograms = {metrics.REQUEST_DURATION_SECONDS, metrics.FIRST_RESPONSE_SECONDS}
    # What says how the others are to be read, or counts what another one shows as it is.
    left_out = {
        metrics.BUNDLE_INFO, metrics.MODEL_LOADS_TOTAL, metrics.GOLDEN_PROBE_LAST_RUN_TIMESTAMP_SECONDS,
        metrics.DRIFT_WATCHING, metrics.DRIFT_EXPECTED_RUN_TIME_SECONDS, metrics.DRIFT_WINDOWS_TOTAL,
        metrics.HEALTH_INSUFFICIENT_DATA, metrics.HEALTH_WINDOWS_TOTAL, metrics.HEALTH_SECONDS_SINCE_FULL_WINDOW,
    }  # fmt: skip
    assert ours() - histograms - shown == left_out
    assert set(triton_metrics.KEPT) <= shown


@each
def test_panels_say_what_they_show_and_do_not_overlap(key: str) -> None:
    board, taken = DASHBOARDS[key], set()
    for panel in every_panel(board):
        title, where = panel["title"], panel["gridPos"]
        assert re.fullmatch(r".+ \(.+\)", title), f"{title} has no unit"
        assert 10 < len(panel["description"]) < 140, title
        assert panel["description"].endswith("."), title
        assert "\n" not in panel["description"]
        assert panel["fieldConfig"]["defaults"]["unit"], title
        assert panel["datasource"]["uid"] == "$datasource"
        assert all(target["legendFormat"] for target in panel["targets"]), title
        assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"]), title
        cells = {(where["x"] + x, where["y"] + y) for x in range(where["w"]) for y in range(where["h"])}
        assert max(x for x, _ in cells) < 24, title
        assert not cells & taken, title
        taken |= cells
    titles = [panel["title"] for panel in every_panel(board)]
    assert len(titles) == len(set(titles))
    ids = [panel["id"] for panel in board["panels"]]
    assert len(ids) == len(set(ids))


@each
def test_variables(key: str) -> None:
    variables = {variable["name"]: variable for variable in DASHBOARDS[key]["templating"]["list"]}
    assert list(variables) == ["datasource", "namespace", "model", "version"]
    for name in ("namespace", "model", "version"):
        assert (variables[name]["allValue"], variables[name]["includeAll"]) == (".*", True)


def test_a_models_own_have_it_preset_and_another_identity() -> None:
    own = {key: json.loads(text) for key, text in shipped.of_model("demo", "digits-vae").items()}
    other = {key: json.loads(text) for key, text in shipped.of_model("demo-digits", "vae").items()}
    assert list(own) == list(shipped.KEYS)
    for key, board in own.items():
        current = {one["name"]: one.get("current", {}).get("value") for one in board["templating"]["list"]}
        assert (current["namespace"], current["model"], current["version"]) == ("demo", "digits-vae", "$__all")
        assert board["title"].startswith("demo/digits-vae / ")
        assert board["links"][0]["tags"] == ["latentry-demo-digits-vae"]
        assert "latentry-overview" not in board["tags"]
        assert board["panels"] == DASHBOARDS[key]["panels"]
    uids = [board["uid"] for boards in (own, other, DASHBOARDS) for board in boards.values()]
    assert len(uids) == len(set(uids))
    assert all(len(uid) <= 40 for uid in uids)
    longest = shipped.of_model("n" * 63, "m" * 44)
    assert all(len(json.loads(text)["uid"]) <= 40 for text in longest.values())


def test_a_config_map_holds_them_with_room() -> None:
    assert sum(map(len, shipped.of_model("n" * 63, "m" * 44).values())) < 80_000, "every model has one in etcd"


def test_the_operator_needs_no_sdk() -> None:
    code = "import sys, latentry_operator.render; sys.exit(any(name.startswith('grafana') for name in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_names_in_queries_are_found() -> None:
    expr = '1e6 * sum by (a) (rate(x_total{b="c"}[5m])) / on (d) group_left () (y > 0) unless z offset 5m'
    assert metric_names(expr) == {"x_total", "y", "z"}
