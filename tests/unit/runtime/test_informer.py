"""Informers against a scripted server: resuming, listing again, kinds that are gone."""

import asyncio
import json
from typing import Any

from latentry_operator.kube.client import Client
from latentry_operator.kube.informer import Informer
from latentry_operator.kube.kinds import CONFIG_MAP
from latentry_operator.kube.records import Stored, stored


def thing(name: str, version: int) -> dict[str, Any]:
    return {"metadata": {"namespace": "n", "name": name, "resourceVersion": str(version), "uid": name}}


def page(version: int, *items: dict[str, Any], more: str = "") -> dict[str, Any]:
    return {"metadata": {"resourceVersion": str(version), "continue": more}, "items": list(items)}


def event(change: str, obj: dict[str, Any]) -> bytes:
    return json.dumps({"type": change, "object": obj}).encode() + b"\n"


async def run(script: Any, client: Client, last: str) -> list[tuple[str | None, str | None]]:
    """Everything the listener is told until the object ``last`` appears."""
    seen: list[tuple[str | None, str | None]] = []
    done = asyncio.Event()

    def listen(before: Stored | None, after: Stored | None, _: bool) -> None:
        seen.append(tuple(record and f"{record.key[1]}{record.version}" for record in (before, after)))  # type: ignore[arg-type]
        if after is not None and after.key[1] == last:
            done.set()

    informer = Informer(client, CONFIG_MAP, namespace=None, selector="a=b", keep=stored, listener=listen, page=7)
    informer.set_served(True)
    task = asyncio.create_task(informer.run())
    try:
        await asyncio.wait_for(done.wait(), 20)
        assert informer.synced.is_set()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    return seen


async def test_list_in_pages_then_watch_then_resume_at_the_bookmark(script: Any, client: Client) -> None:
    script.then(200, page(10, thing("a", 3), more="next")).then(200, page(10, thing("b", 4)))
    script.then_stream(
        event("MODIFIED", thing("a", 11)), event("DELETED", thing("b", 12)), event("BOOKMARK", thing("", 40))
    )
    script.then_stream(event("ADDED", thing("z", 41))).then_stream()
    seen = await run(script, client, "z")
    assert seen == [(None, "a3"), (None, "b4"), ("a3", "a11"), ("b4", None), (None, "z41")]
    queries = [request.query for request in script.requests]
    assert queries[1]["continue"] == "next"
    assert [query["limit"] for query in queries[:2]] == ["7", "7"]
    assert [query.get("resourceVersion") for query in queries[2:4]] == ["10", "40"]
    assert all(query["labelSelector"] == "a=b" for query in queries)


async def test_an_expired_watch_lists_again_and_misses_no_deletion(script: Any, client: Client) -> None:
    script.then(200, page(10, thing("a", 3), thing("b", 4)))
    script.then_stream(event("ERROR", {"code": 410, "reason": "Expired"}))
    script.then(200, page(90, thing("b", 4), thing("z", 80))).then_stream()
    seen = await run(script, client, "z")
    assert seen == [(None, "a3"), (None, "b4"), (None, "z80"), ("a3", None)]
    assert "watch" not in script.requests[2].query


async def test_a_kind_that_is_gone_is_forgotten_until_it_is_served_again(script: Any, client: Client) -> None:
    told: list[bool] = []
    gone = asyncio.Event()

    def listen(before: Stored | None, after: Stored | None, _: bool) -> None:
        told.append(after is not None)
        if after is None:
            gone.set()

    script.then(200, page(10, thing("a", 3))).then(404)
    informer = Informer(client, CONFIG_MAP, namespace=None, selector="", keep=stored, listener=listen)
    informer.set_served(True)
    task = asyncio.create_task(informer.run())
    try:
        await asyncio.wait_for(gone.wait(), 20)
        assert not informer.served
        assert informer.synced.is_set()
        script.answers.clear()
        script.then(200, page(20, thing("a", 15))).then_stream()
        informer.set_served(True)
        assert not informer.synced.is_set()
        await asyncio.wait_for(informer.synced.wait(), 20)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert told == [True, False, True]
