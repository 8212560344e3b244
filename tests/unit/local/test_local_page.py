"""The page of `latentry up`: which models it lists, and what of their taps it lets through, to whom."""

from collections.abc import Iterator

import httpx
import pytest
from fastapi.testclient import TestClient

from latentry_operator.local import page as local_page
from latentry_operator.local.snapshot import Addresses, Phase, Snapshot
from latentry_serving.contract.page import PageModels, PageSource, TapDocument

READY = Snapshot("one", "3", Phase.READY, "long", Addresses("h:1", "g:2", "a:3", "http://p"))
STARTING = Snapshot("two", "1", Phase.STARTING, "loading", Addresses("h:4", "g:5", "a:6"))


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


def test_up_answers_no_other_name_than_this_machine(up: tuple[TestClient, list[str]]) -> None:
    assert up[0].get("/page/models", headers={"host": "rebound.example:9500"}).status_code == 400
    assert up[0].get("/page/models", headers={"host": "localhost:9500"}).status_code == 200
