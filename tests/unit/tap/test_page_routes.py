"""The page's routes. Covered: types, headers that keep everything to one origin, revalidation, what is no file of the
page; what the page refers to is served, and every file of the package that is the page's; `/latency`, `/history` and
`/page/models` of a tap."""

import re
from collections.abc import Iterator
from importlib.resources import files

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from latentry_serving.contract.metrics import CallKind, Outcome, Protocol
from latentry_serving.contract.page import PageModels, PageSource, TapDocument
from latentry_serving.contract.tap_config import TapConfig
from latentry_serving.page.routes import FILES
from latentry_serving.sli.book import SliBook
from latentry_serving.sli.calls import Call
from latentry_serving.tap.history import HistoryKeeper
from latentry_serving.tap.monitoring import MonitoringDesk
from latentry_serving.tap.page_views import page_views
from latentry_serving.tap.slis import latency

PACKAGE = files("latentry_serving.page")


class Unready:
    """Says what it is told to."""

    def __init__(self, *reasons: str) -> None:
        self._reasons = list(reasons)

    async def reasons(self) -> list[str]:
        return self._reasons


def book_of(*durations_s: float) -> SliBook:
    book = SliBook((0.1,), ["encode"], started_s=0.0)
    for duration in durations_s:
        call = Call(Protocol.GRPC, "encode", CallKind.UNARY, started_s=100 - duration)
        book.call_started(call)
        call.first_response_s = call.last_response_s = 100.0
        call.outcome = Outcome.OK
        book.call_finished(call)
    book.settle()
    return book


def tap_client(config: TapConfig | None = None, readiness: Unready | None = None, book: SliBook | None = None):
    config = config or TapConfig(model="m", version="7")
    keeper = HistoryKeeper(MonitoringDesk(config, lambda: 5.0), lambda: 5.0)
    app = FastAPI()
    figures = book or book_of()
    app.include_router(page_views(config, readiness or Unready(), lambda: latency(figures, now_s=100.0), keeper))
    return TestClient(app)


@pytest.fixture(scope="module")
def tap() -> Iterator[TestClient]:
    with tap_client() as client:
        yield client


@pytest.mark.parametrize("name", FILES)
def test_every_file_comes_with_its_type_and_the_headers_that_close_the_page(tap: TestClient, name: str) -> None:
    answer = tap.get("/" if name == "index.html" else f"/page/{name}")
    assert (answer.status_code, answer.content) == (200, PACKAGE.joinpath(*name.split("/")).read_bytes())
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert {part.strip().split(" ", 1)[1] for part in policy.split(";")} <= {"'none'", "'self'"}
    assert answer.headers["x-content-type-options"] == "nosniff"
    kind = {"html": "text/html", "js": "text/javascript", "css": "text/css", "svg": "image/svg+xml"}
    assert answer.headers["content-type"].startswith(kind.get(name.rsplit(".", 1)[1], "text/plain"))


def test_what_has_not_changed_is_not_sent_again(tap: TestClient) -> None:
    first = tap.get("/page/page.js")
    assert first.headers["cache-control"] == "no-cache"
    again = tap.get("/page/page.js", headers={"if-none-match": f'"other", W/{first.headers["etag"]}'})
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", first.headers["etag"])
    assert tap.get("/page/page.js", headers={"if-none-match": '"other"'}).status_code == 200


@pytest.mark.parametrize(
    "path", ["/page/", "/page/index.html", "/page/routes.py", "/page/../routes.py", "/page/%2e%2e/cli.py"]
)
def test_nothing_else_of_the_package_is_served(tap: TestClient, path: str) -> None:
    assert tap.get(path).status_code == 404


def test_the_page_refers_to_nothing_but_files_that_are_served_and_holds_no_inline_code(tap: TestClient) -> None:
    html = PACKAGE.joinpath("index.html").read_text()
    referred = set(re.findall(r'(?:src|href)="(page/[^"]+)"', html))
    assert {name.removeprefix("page/") for name in referred} <= set(FILES)
    assert not re.search(r"<style|\bstyle=|\bon\w+=|javascript:|https?://(?!www\.w3\.org)", html)
    assert not re.search(r"<script(?![^>]*\bsrc=)", html)
    for name in (name for name in FILES if name.endswith(".js") and "/" not in name):
        source = PACKAGE.joinpath(name).read_text()
        imported = re.findall(r'from "\./([^"]+)"', source)
        assert set(imported) <= set(FILES), name
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function", source), (
            name
        )


def test_every_script_and_sheet_of_the_package_is_served() -> None:
    there = {entry.name for entry in PACKAGE.iterdir() if entry.name.endswith((".js", ".css", ".svg", ".html"))}
    assert there <= set(FILES)


def test_a_tap_without_a_bundle_says_which_documents_it_has_and_why_it_is_not_ready() -> None:
    with tap_client(readiness=Unready("no Triton", "no luck")) as client:
        answer = client.get("/page/models")
    found = PageModels.model_validate_json(answer.content)
    (model,) = found.models
    assert (found.source, model.name, model.version, model.api) == (PageSource.TAP, "m", "7", "")
    assert (model.phase, model.message) == ("Not ready", "no Triton; no luck")
    assert set(TapDocument) - set(model.documents) == {TapDocument.BUNDLE, TapDocument.PROBES}
    assert answer.headers["cache-control"] == "no-store"
    with tap_client(TapConfig(bundle_dir="b")) as client:
        (model,) = PageModels.model_validate_json(client.get("/page/models").content).models
    assert (model.phase, set(model.documents)) == ("Ready", set(TapDocument))


def test_the_histogram_adds_up_and_its_edges_hold_the_durations() -> None:
    durations = [0.001, 0.0011, 0.004, 0.032]
    with tap_client(book=book_of(*durations)) as client:
        found = client.get("/latency").json()
    everything = found["inference"]
    edges, counts = everything["edgesSeconds"], everything["total"]
    assert (len(edges), sum(counts), counts) == (len(counts) + 1, 4, everything["recent"])
    assert edges == sorted(edges)
    for low, high, count in zip(edges, edges[1:], counts, strict=False):
        assert count == sum(low <= duration < high for duration in durations)
        assert high / low < 1.13
    assert [(row["operation"], row["protocol"]) for row in found["operations"]] == [("encode", "grpc")]


def test_without_calls_there_is_no_histogram_and_without_drift_no_history(tap: TestClient) -> None:
    assert tap.get("/latency").json() == {
        "inference": {"edgesSeconds": [], "total": [], "recent": []}, "operations": [],
    }  # fmt: skip
    history = tap.get("/history", params={"since": 3}).json()
    assert (history["statistics"], history["sinceSeconds"], history["points"]) == ([], 5.0, 512)
    assert tap.get("/history", params={"since": "yesterday"}).status_code == 422


def luminance(colour: str) -> float:
    """Relative luminance of #rrggbb. Source: WCAG 2.2."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_text_and_marks_stand_out_from_what_is_behind_them(theme: int) -> None:
    pairs = re.findall(r"--([\w-]+): light-dark\((#\w{6}), (#\w{6})\);", PACKAGE.joinpath("tokens.css").read_text())
    tokens = {name: colours[theme] for name, *colours in pairs}
    grounds = [tokens[name] for name in ("page", "surface", "raised")]
    for name in ("text", "muted", "accent", "ok", "warn", "bad", "idle"):
        assert min(contrast(tokens[name], ground) for ground in grounds) >= 4.5, name
    for name in ("ok", "warn", "bad", "idle"):
        assert contrast(tokens[name], tokens[f"{name}-soft"]) >= 4.5, name
    for name in ("text", "muted"):
        assert contrast(tokens[name], tokens["bad-soft"]) >= 4.5, f"{name} in the row of an alarm"
    for name in ("line-strong", "focus", "bar", *(f"series-{n}" for n in range(1, 7))):
        assert contrast(tokens[name], tokens["surface"]) >= 3, name
