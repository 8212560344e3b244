"""A model's dashboards in the cluster: made, repaired, gone with the setting. The operator keeps a hash of them, not
their text."""

import json
from typing import Any

from kube import ControlPlane, kinds

NAME = "tiny-dashboards"


async def test_made_repaired_and_removed_when_turned_off(
    permitted: ControlPlane, run_operator_on: Any, world: Any, make_model: Any
) -> None:
    entry = f"latentry-{world.namespace}-tiny-on-call.json"

    async def text() -> str | None:
        found = await world.api.find(kinds.config_map, world.namespace, NAME)
        return found and found["data"][entry]

    async with run_operator_on(permitted, cluster={"dashboard_labels": {"grafana_dashboard": "1"}}) as operator:
        await world.apply(make_model("tiny"))
        await world.complete("tiny")
        made = await world.api.get(kinds.config_map, world.namespace, NAME)
        assert made["metadata"]["labels"]["grafana_dashboard"] == "1"
        (owner,) = made["metadata"]["ownerReferences"]
        assert (owner["kind"], owner["name"]) == ("LatentModel", "tiny")
        board = made["data"][entry]
        assert json.loads(board)["title"] == f"{world.namespace}/tiny / On-call"
        (record,) = [
            child
            for kind, child in operator.cache.children((world.namespace, "tiny"))
            if kind.name == "ConfigMap" and child.key[1] == NAME
        ]
        assert len(repr(record)) < 4_000 < len(board)

        await world.api.merge(kinds.config_map, world.namespace, NAME, {"data": {entry: "{}"}})

        async def repaired() -> bool:
            return await text() == board

        await world.eventually(repaired)
    async with run_operator_on(permitted, cluster={"dashboard_labels": {}}):

        async def gone() -> bool:
            return await text() is None

        await world.eventually(gone)
