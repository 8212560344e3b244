"""A model's dashboards where Grafana's sidecar finds them. Covered: label, names of entries, owner's labels, other
labels, turned off."""

import json
from typing import Any

from latentry_operator.plan.cluster import ClusterSettings


def test_the_sidecar_finds_them_and_entries_of_two_models_have_other_names(objects: Any) -> None:
    found = objects(settings=ClusterSettings())["Dashboards"]
    assert found["metadata"]["name"] == "digits-vae-dashboards"
    labels = found["metadata"]["labels"]
    assert (labels["grafana_dashboard"], labels["latentry.dev/model"]) == ("1", "digits-vae")
    assert "latentry.dev/revision" not in labels, "they stay while revisions come and go"
    assert list(found["data"]) == [f"latentry-demo-digits-vae-{key}.json" for key in ("executive", "on-call", "debug")]
    for text in found["data"].values():
        assert json.loads(text)["title"].startswith("demo/digits-vae / ")


def test_another_sidecar_looks_for_another_label(objects: Any) -> None:
    settings = ClusterSettings(dashboard_labels={"grafana/dashboards": "platform", "latentry.dev/model": "x"})
    labels = objects(settings=settings)["Dashboards"]["metadata"]["labels"]
    assert labels["grafana/dashboards"] == "platform"
    assert labels["latentry.dev/model"] == "digits-vae", "ours win"
    assert "grafana_dashboard" not in labels


def test_without_labels_there_are_none(objects: Any) -> None:
    assert "Dashboards" not in objects(settings=ClusterSettings(dashboard_labels={}))
