"""The live page in a real browser, from a real tap in front of a real Triton. Covered: figures move with traffic, a
drift alarm with its contributors and timeline, what the history holds at the first look, documents with names that
would like to be HTML, a posterior's KL, connection lost and found, tabs that are hidden or paused, keyboard, themes,
contrast and rules of axe-core in both, phones; no error, no request to elsewhere. axe-core: axe-playwright-python."""

import json
from collections.abc import Callable
from importlib.resources import files
from urllib.parse import urlsplit

import numpy as np
import pytest
from playwright.sync_api import Page, Route, expect

pytestmark = pytest.mark.triton

HOSTILE = "<img src=x onerror=document.title='taken'>"
PHONE = {"viewport": {"width": 360, "height": 740}, "device_scale_factor": 2, "has_touch": True, "is_mobile": True}
AXE_RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]


def rows(seed: int, count: int) -> np.ndarray:
    return np.random.Generator(np.random.PCG64(seed)).normal(size=(count, 4)).astype(np.float32)


def fed(page: Page, path: str, change: Callable[[dict], dict]) -> None:
    """The page gets a document of the tap, changed."""

    def answer(route: Route) -> None:
        route.fulfill(response=(found := route.fetch()), body=json.dumps(change(found.json())))

    page.route(lambda url: urlsplit(url).path == f"/{path}", answer)


def violations(page: Page) -> list[str]:
    page.evaluate(files("axe_playwright_python").joinpath("axe.min.js").read_text())
    found = page.evaluate("rules => axe.run(document, {runOnly: rules})", AXE_RULES)
    assert "color-contrast" in {rule["id"] for rule in found["passes"]}
    return [f"{v['id']}: {v['nodes'][0]['html'][:200]}" for v in found["violations"]]


def test_figures_follow_the_traffic_and_nothing_leaves_the_origin(start_live_tap, visitor) -> None:
    tap = start_live_tap()
    page = visitor.open(tap.url)
    expect(page).to_have_title("tiny · Latentry")
    expect(page.locator("h1")).to_have_text("tiny")
    expect(page.locator("#version")).to_have_text("version 7")
    expect(page.locator("#tile-rate-sub")).to_have_text("0 since the start")
    expect(page.locator("#latency-summary")).to_have_text("No request that ended ok in this time.")
    tap.send(rows(1, 300))
    expect(page.locator("#tile-rate-sub")).to_have_text("30 since the start")
    for tile in ("p50", "p90", "p99"):
        expect(page.locator(f"#tile-{tile}")).to_contain_text("s")
    expect(page.locator("#operations tbody tr")).to_have_count(1)
    assert page.locator("#operations tbody tr").inner_text().split()[:2] == ["encode", "http"]
    expect(page.locator("#latency-summary")).to_contain_text("30 requests that ended ok")
    tap.send(rows(1, 50))
    expect(page.locator("#latency-summary")).to_contain_text("35 requests that ended ok")
    expect(page.locator("#latency-chart canvas")).to_have_count(1)
    expect(page.locator("#probes-state")).to_have_text("passed")
    expect(page.locator("#bundle-state")).to_have_text("verified")
    expect(page.locator("#rollout-detail")).to_contain_text("A tap knows its own replica only")
    assert visitor.errors == []
    assert {f"{urlsplit(url).scheme}://{urlsplit(url).netloc}/" for url in visitor.requests} == {tap.url}


def test_failures_are_seen(start_live_tap, visitor) -> None:
    tap = start_live_tap()
    page = visitor.open(tap.url, lambda page: fed(page, "slis", failing))
    expect(page.locator("#attention-list")).to_have_text("Requests failed by the server's fault in the last minute.")
    expect(page.locator("#tile-errors")).to_have_text("25 %")
    expect(page).to_have_title("(1) tiny · Latentry")
    assert visitor.errors == []


def failing(slis: dict) -> dict:
    recent = slis["inference"]["recent"]
    recent["errorRatio"], recent["requests"] = 0.25, 8
    recent["outcomes"] |= {"server_error": 2, "ok": 6}
    return slis


def test_an_alarm_is_shown_with_what_it_is_about_and_the_timeline_is_there_at_the_first_look(
    start_live_tap, visitor
) -> None:
    tap = start_live_tap()
    tap.drift()
    page = visitor.open(tap.url)
    expect(page.locator("#drift-state")).to_have_text("alarm")
    expect(page.locator("#attention-list")).to_contain_text("Drift of")
    card = page.locator("article.alarm", has=page.get_by_role("heading", name="input"))
    expect(card).to_contain_text("looks like")
    assert card.locator("tbody tr").count() >= 2
    expect(card.locator("tbody th").first).to_contain_text("dimension")
    expect(page.locator("#drift-summary")).to_contain_text("the line at 1 is the threshold")
    expect(page.locator("#drift-chart canvas")).to_have_count(1)
    page.get_by_text("Timeline as a table").click()
    table = page.locator("#timeline tbody tr")
    told = tap.get("history")["statistics"]
    assert sum(len(part["timesSeconds"]) for part in told) >= table.count() > 0
    expect(page.locator("#timeline tbody tr.bad").first).to_contain_text("on")
    page.get_by_label("Timeline of").select_option("embedding")
    expect(page.locator("#drift-legend")).to_contain_text("t2")
    before = table.count()
    tap.send(rows(4, 100))
    expect(page.locator("#tensors tbody tr").first).to_contain_text("10")
    assert table.count() >= before
    assert visitor.errors == []


def test_what_the_servers_say_is_text_and_never_html(alarming_tap, visitor) -> None:

    def hostile(page: Page) -> None:
        fed(page, "drift", lambda drift: json.loads(json.dumps(drift).replace('"input"', json.dumps(HOSTILE))))
        fed(page, "bundle", lambda bundle: bundle | {"state": "refused", "problems": [HOSTILE], "version": HOSTILE})
        fed(page, "page/models", lambda found: {"source": HOSTILE, "models": [found["models"][0] | {"name": HOSTILE}]})

    page = visitor.open(alarming_tap.url, hostile)
    expect(page.locator("h1")).to_have_text(HOSTILE)
    expect(page.locator("#attention-list")).to_contain_text(f"The bundle is refused: {HOSTILE}")
    expect(page.locator("article.alarm h3", has_text=HOSTILE)).to_have_count(1)
    assert page.locator("img").count() == 1, "the page's own"
    assert page.title().endswith("· Latentry")
    assert visitor.errors == []


def test_the_kl_of_every_dimension_is_drawn_and_told(start_live_tap, visitor) -> None:
    measure = {
        "measure": "kl_total", "value": 6.5, "expected": 9.0, "unit": "nats", "pValue": 1e-9, "alarmSinceSeconds": 1e9,
        "reason": "total KL is 6.5", "details": {"perDimension": [3.0, 0.001, 3.5], "furthest": [1]},
    }  # fmt: skip
    part = {
        "part": "posterior", "state": "unhealthy", "window": 50, "held": 3, "windows": 2, "insufficientWindows": 0,
        "secondsSinceFullWindow": 4.0, "alpha": 1e-4, "samples": 50, "nonFinite": 0, "notes": [], "measures": [measure],
    }  # fmt: skip
    tap = start_live_tap()
    told = {"state": "watching", "family": "VAE", "verdict": "unhealthy", "parts": [part]}
    page = visitor.open(tap.url, lambda page: fed(page, "health-of-model", lambda health: health | told))
    expect(page.locator("#health-state")).to_have_text("unhealthy")
    expect(page.locator("#measures tbody tr")).to_contain_text(["kl total"])
    expect(page.locator("#attention-list")).to_contain_text("The model is unhealthy: kl total.")
    expect(page.locator("#measures")).to_contain_text("Total KL is 6.5; since")
    expect(page.locator("#kl-chart canvas")).to_have_count(1)
    expect(page.locator("#kl-summary")).to_contain_text("6.5 nats together, 9 expected")
    page.get_by_text("KL per latent dimension as a table").click()
    expect(page.locator("#kl-table tbody tr")).to_have_count(3)
    assert visitor.errors == []


def test_a_tap_that_is_gone_is_said_and_found_again(start_live_tap, visitor) -> None:
    tap = start_live_tap()
    tap.send(rows(1, 100))
    page = visitor.open(tap.url)
    expect(page.locator("#tile-rate-sub")).to_have_text("10 since the start")
    assert page.locator("#lost").is_hidden()
    tap.kill()
    expect(page.get_by_role("alert")).to_contain_text("Connection lost. These figures are of")
    expect(page.locator("#link-text")).to_have_text("Connection lost")
    expect(page.locator("#lost-wait")).to_contain_text("Next try in")
    expect(page.locator("#tile-rate-sub")).to_have_text("10 since the start")
    tap.start()
    page.get_by_role("button", name="Try now").click()
    expect(page.locator("#link-text")).to_have_text("Live")
    expect(page.locator("#lost")).to_be_hidden()
    expect(page.locator("#tile-rate-sub")).to_have_text("0 since the start")
    assert all("ERR_" in error or "Failed to load" in error for error in visitor.errors), visitor.errors


def test_the_longer_nobody_answers_the_longer_it_waits(start_live_tap, visitor) -> None:
    page = visitor.open(start_live_tap().url)
    page.clock.install()
    page.context.set_offline(True)
    page.clock.pause_at(page.evaluate("Date.now()") / 1000 + 60)  # the seconds that are left stand still to be read
    waits = []
    for _ in range(6):
        page.get_by_role("button", name="Pause").click()  # whatever was due is not
        page.get_by_role("button", name="Pause").click()
        expect(page.locator("#link-text")).to_have_text("Connection lost")
        waits.append(int(page.locator("#lost-wait").inner_text().split()[3]))
    assert waits[0] in (2, 4)
    assert waits == sorted(waits)
    assert waits[-1] == 30


def test_a_hidden_tab_asks_for_nothing_and_a_paused_one_neither(start_live_tap, visitor) -> None:
    page = visitor.open(start_live_tap().url)
    pretend = "hidden => { Object.defineProperty(document, 'hidden', {value: hidden, configurable: true}); }"
    changed = "() => document.dispatchEvent(new Event('visibilitychange'))"
    page.evaluate(pretend, True)
    page.evaluate(changed)
    expect(page.locator("#link-text")).to_have_text("Paused, hidden")
    before = len(visitor.requests)
    page.wait_for_timeout(5000)
    assert len(visitor.requests) == before
    page.evaluate(pretend, False)
    page.evaluate(changed)
    expect(page.locator("#link-text")).to_have_text("Live")
    assert len(visitor.requests) > before
    page.get_by_role("button", name="Pause").click()
    expect(page.locator("#link-text")).to_have_text("Paused")
    expect(page.get_by_role("button", name="Pause")).to_have_attribute("aria-pressed", "true")
    before = len(visitor.requests)
    page.wait_for_timeout(5000)
    assert len(visitor.requests) == before
    page.get_by_role("button", name="Pause").click()
    expect(page.locator("#link-text")).to_have_text("Live")


def test_the_keyboard_reaches_everything_in_order_and_the_focus_is_seen(start_live_tap, visitor) -> None:
    page = visitor.open(start_live_tap().url)
    expect(page.locator("#drift-body")).to_be_visible()
    reached = []
    for _ in range(8):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("(e => e.id || e.className || e.tagName)(document.activeElement)"))
        width = page.evaluate("getComputedStyle(document.activeElement).outlineWidth")
        assert width == "3px", reached
    assert reached[:6] == ["skip", "pause", "theme", "scroll", "latency-of", "latency-span"]
    page.reload()
    page.locator("#link-text", has_text="Live").wait_for()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    page.locator("#pause").focus()
    page.keyboard.press("Space")
    expect(page.locator("#link-text")).to_have_text("Paused")


def test_the_theme_is_the_systems_until_another_is_chosen_and_remembered(start_live_tap, visitor) -> None:
    page = visitor.open(start_live_tap().url, color_scheme="dark")
    ground = "getComputedStyle(document.body).backgroundColor"
    dark = page.evaluate(ground)
    page.get_by_label("Theme").select_option("light")
    light = page.evaluate(ground)
    assert light != dark
    page.reload()
    assert page.evaluate(ground) == light
    page.get_by_label("Theme").select_option("auto")
    assert page.evaluate(ground) == dark


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_with_everything_unfolded(alarming_tap, visitor, scheme: str) -> None:
    page = visitor.open(alarming_tap.url, color_scheme=scheme, viewport={"width": 1280, "height": 6000})
    expect(page.locator("article.alarm").first).to_be_visible()
    page.evaluate("document.querySelectorAll('details').forEach(each => { each.open = true; })")
    page.get_by_role("button", name="Pause").click()
    assert violations(page) == []
    assert page.evaluate("document.querySelectorAll('[aria-live], [role=alert], [role=status]').length") == 2


def test_a_phone_scrolls_in_one_direction_and_charts_fit(alarming_tap, visitor) -> None:
    page = visitor.open(alarming_tap.url, **PHONE)
    expect(page.locator("article.alarm").first).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    assert page.evaluate("Math.max(...[...document.querySelectorAll('.uplot')].map(e => e.offsetWidth))") <= 360
    sizes = page.evaluate("[...document.querySelectorAll('button, select')].map(e => e.offsetHeight).filter(Boolean)")
    assert min(sizes) >= 40
    assert violations(page) == []
    assert visitor.errors == []


def test_a_tap_without_bundle_or_samples_says_so(start_live_tap, visitor) -> None:
    settings = {"bundle_dir": "null", "sampling": "{}", "operations": "{tiny_encode: encode}"}
    tap = start_live_tap(**settings)
    page = visitor.open(tap.url)
    expect(page.locator("#drift-state")).to_have_text("sampling off")
    expect(page.locator("#drift-detail")).to_contain_text("set sampling.maxPerSecond")
    expect(page.locator("#bundle-detail")).to_contain_text("was given no bundle")
    expect(page.locator("#probes-detail")).to_contain_text("was given no bundle")
    tap.send(rows(1, 20))
    expect(page.locator("#tile-rate-sub")).to_have_text("2 since the start")
    assert visitor.errors == []
