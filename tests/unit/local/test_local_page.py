"""The page of `latentry up`: which models it lists, and what of their taps it lets through, to whom."""

from collections.abc import Iterator
from dataclasses import replace

import httpx
import pytest
from fastapi.testclient import TestClient

from latentry_operator.local import page as local_page
from latentry_operator.local.snapshot import Addresses, Phase, RevisionView, RolloutView, Snapshot
from latentry_serving.contract.page import PageModels, PageSource, TapDocument

READY = Snapshot("one", "3", Phase.READY, "long", Addresses("h:1", "g:2", "a:3", "http://p"))
STARTING = Snapshot("two", "1", Phase.STARTING, "loading", Addresses("h:4", "g:5", "a:6"))

OLD, NEW = RevisionView("one-1", "1", "sha256:1"), RevisionView("one-2", "2", "sha256:2")
ON_TRIAL = RolloutView("Watching", "Watching", "watched", "one-2", OLD, NEW, None, 100, 5.0)
DONE = replace(ON_TRIAL, reason="Complete", candidate=None)


@pytest.fixture
def up(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[TestClient, list[str]]]:
    """The page of `latentry up` over taps that answer with the URL they were asked."""
    asked: list[str] = []
    real = httpx.AsyncClient

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(str(request.url))
        if request.url.path == "/drift":
            raise httpx.ConnectError("gone")
        return httpx.Response(200, json={"it": "answers"}, headers={"set-cookie": "a=b"})

    monkeypatch.setattr(
        local_page.httpx, "AsyncClient", lambda **given: real(**given, transport=httpx.MockTransport(answer))
    )
    with TestClient(local_page.page_app(lambda: [READY, STARTING]), base_url="http://127.0.0.1:9500") as client:
        yield client, asked


def test_up_lists_its_models_with_their_state(up: tuple[TestClient, list[str]]) -> None:
    found = PageModels.model_validate_json(up[0].get("/page/models").content)
    assert found.source is PageSource.UP
    assert [(m.name, m.api, m.phase, m.message, len(m.documents)) for m in found.models] == [
        ("one", "models/one/", "Ready", "HTTP h:1, gRPC g:2", len(TapDocument)),
        ("two", "models/two/", "Starting", "loading", 0),
    ]
    assert up[0].get("/").status_code == 200


def test_up_reads_the_taps_for_the_page_and_nothing_else(up: tuple[TestClient, list[str]]) -> None:
    client, asked = up
    answer = client.get("/models/one/history", params={"since": "12.5"})
    assert (answer.status_code, answer.json(), "set-cookie" in answer.headers) == (200, {"it": "answers"}, False)
    assert asked == ["http://a:3/history?since=12.5"]
    for path in ("/models/one/readyz", "/models/one/%2e%2e", "/models/three/slis", "/models/one/page/models"):
        assert client.get(path).status_code == 404, path
    assert client.get("/models/one/drift").status_code == 502
    assert asked[1:] == ["http://a:3/drift"]
    assert client.get("/models/one/metrics/triton").status_code == 200
    assert asked[2:] == ["http://a:3/metrics/triton"]


def test_up_answers_no_other_name_than_this_machine(up: tuple[TestClient, list[str]]) -> None:
    assert up[0].get("/page/models", headers={"host": "rebound.example:9500"}).status_code == 400
    assert up[0].get("/page/models", headers={"host": "localhost:9500"}).status_code == 200


@pytest.mark.parametrize(
    ("view", "shown"),
    [
        (None, None),
        (ON_TRIAL, ("Watching", "watched", "1", "2", 1.0)),
        (
            replace(ON_TRIAL, reason="Complete", stable=NEW, candidate=None, previous=OLD),
            ("Complete", "watched", "1", "2", None),
        ),
        (replace(ON_TRIAL, reason="Complete", candidate=None), None),
        (replace(ON_TRIAL, stable=None), None),
        (
            replace(DONE, edit="no bundle"),
            ("EditRefused", "The last edit of the file was refused: no bundle", "1", "1", None),
        ),
        (
            replace(DONE, reason="Rejected", rejected="one-2", rejected_version="2"),
            ("Rejected", "watched", "1", "2", 0.0),
        ),
    ],
)
def test_the_page_shows_what_is_under_way_was_refused_or_may_be_undone(
    view: RolloutView | None, shown: tuple[object, ...] | None
) -> None:
    snapshot = replace(READY, rollout=view)
    with TestClient(local_page.page_app(lambda: [snapshot]), base_url="http://127.0.0.1:9500") as client:
        found = PageModels.model_validate_json(client.get("/page/models").content).models[0].rollout
    got = None if found is None else (found.state, found.message, found.from_version, found.to_version, found.share)
    assert got == shown
