"""What the rollout section refuses, with path and remedy."""

from typing import Any

import pytest
from pydantic import ValidationError
from rollout_world import spec

from latentry_operator.api.parse import parse_resource
from latentry_serving.contract.errors import InvalidInput


def check(name: str, **more: Any) -> dict[str, Any]:
    return {"gates": {"promql": [{"name": name, "query": "x", **more}]}}


@pytest.mark.parametrize(
    ("rollout", "path", "words"),
    [
        (check("a"), "spec.rollout.gates.promql[0]", "no bound"),
        (check("a", min=2, max=1), "spec.rollout.gates.promql[0].min", "2 is more than max, 1"),
        (check("a", min=2, every="0s"), "spec.rollout.gates.promql[0].every", "out of range"),
        (
            {"gates": {"promql": [{"name": "a", "query": "x", "min": 1}] * 2}},
            "spec.rollout.gates.promql[1].name",
            "a twice",
        ),
        ({"watchFor": "91d"}, "spec.rollout.watchFor", "out of range"),
        ({"shadow": {"for": "0s"}}, "spec.rollout.shadow.for", "out of range"),
        ({"analysis": {"longestWait": "0s"}}, "spec.rollout.analysis.longestWait", "out of range"),
    ],
)
def test_problems_across_fields_are_named(rollout: dict[str, Any], path: str, words: str) -> None:
    body = {
        "apiVersion": "latentry.dev/v1alpha1",
        "kind": "LatentModel",
        "metadata": {"name": "m"},
        "spec": {"family": "VAE", "bundle": {"uri": "file:///b"}, "rollout": rollout},
    }
    with pytest.raises(InvalidInput) as refused:
        parse_resource(body, subject="model.yaml")
    assert [problem.path for problem in refused.value.problems] == [path]
    assert words in str(refused.value)


@pytest.mark.parametrize(
    "rollout",
    [
        check("A b", min=1),
        check("a", min=float("nan")),
        {"analysis": {"tolerance": 0}},
        {"gates": {"maxRestarts": -1}},
        {"gates": {"compatibility": {"minCrossRecall": 1.1}}},
        {"gates": {"compatibility": {"maxNormRatio": 1}}},
        {"gates": {"compatibility": {"maxNormRatio": 0.8}}},
    ],
)
def test_values_that_mean_nothing_are_refused(rollout: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        spec(rollout)
