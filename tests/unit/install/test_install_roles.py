"""manifests/operator/role.yaml against the kinds that the operator reads and writes: no verb more, none less.

That each verb is needed and all of them suffice is shown on a real API server, tests/wire/kube.
"""

from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
import yaml

from latentry_operator.kube import kinds

ROOT = Path(__file__).parents[3]
READ = {"list", "watch"}
OWN = READ | {"get", "create", "patch", "delete"}


@pytest.fixture(scope="module")
def roles() -> dict[tuple[str, str], Any]:
    documents = yaml.safe_load_all((ROOT / "manifests" / "operator" / "role.yaml").read_text())
    return {(one["kind"], one["metadata"]["name"]): one["rules"] for one in documents}


def allowed(rules: list[dict[str, Any]]) -> dict[tuple[str, str], set[str]]:
    """(group, resource) -> verbs."""
    found = defaultdict(set)
    for rule in rules:
        for group in rule["apiGroups"]:
            for resource in rule["resources"]:
                found[group, resource] |= set(rule["verbs"])
    return dict(found)


def test_models_and_their_objects(roles: dict[tuple[str, str], Any]) -> None:
    group, models = kinds.LATENT_MODEL.group, kinds.LATENT_MODEL.plural
    assert allowed(roles["ClusterRole", "latentry-operator"]) == {
        (group, models): READ,
        (group, f"{models}/status"): {"patch"},
        ("", kinds.POD.plural): READ,
        ("", kinds.EVENT.plural): {"create", "patch"},
        **{(kind.group, kind.plural): OWN for kind in kinds.CHILDREN},
    }


def test_pools(roles: dict[tuple[str, str], Any]) -> None:
    group, pools = kinds.GPU_POOL.group, kinds.GPU_POOL.plural
    expected = {(group, pools): READ, (group, f"{pools}/status"): {"patch"}}
    assert allowed(roles["ClusterRole", "latentry-operator-pools"]) == expected


def test_the_lease_and_no_other(roles: dict[tuple[str, str], Any]) -> None:
    rules = roles["Role", "latentry-operator"]
    assert allowed(rules) == {(kinds.LEASE.group, kinds.LEASE.plural): {"create", "get", "update"}}
    unnamed = [rule["verbs"] for rule in rules if "resourceNames" not in rule]
    assert unnamed == [["create"]], "only a create cannot be limited to a name"


def test_no_role_more(roles: dict[tuple[str, str], Any]) -> None:
    assert len(roles) == 3
