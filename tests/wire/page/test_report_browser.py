"""The drift report in a real browser: nothing is asked of any network, no error, and it fits screens and paper.

Runs where Chromium is installed. The report is of vectors made here, judged against a profile fitted here.
"""

import shutil
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from latentry_serving.bundle.profile import BundleProfile, Health
from latentry_serving.drift.fit import FitSettings, fit_tensor
from latentry_serving.drift.profile import Profile
from latentry_serving.drift_cli.check import CheckSettings, judge_inputs
from latentry_serving.drift_cli.report_data import Evidence, report_of
from latentry_serving.drift_cli.report_page import rendered
from latentry_serving.health.autoencoder import AutoencoderBaseline
from latentry_serving.health.vae import VaeBaseline

WINDOW, ROWS, WIDTH = 60, 1500, 6
EVIL = "<script>document.title='taken'</script>"


def vectors(seed: int, rows: int) -> dict[str, np.ndarray]:
    """Watched tensors of a VAE's undrifted traffic."""
    rng = np.random.default_rng(seed)
    mean = rng.normal(size=(rows, WIDTH)).astype(np.float32)
    return {
        "posterior_mean": mean,
        "posterior_log_variance": (0.1 * rng.normal(size=(rows, WIDTH)) - 2).astype(np.float32),
        "reconstruction_error": rng.gamma(9, size=(rows, 1)).astype(np.float32),
    }


@pytest.fixture(scope="module")
def report_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page of inputs whose second half drifts, under a name that would like to be a script."""
    reference, live = vectors(0, ROWS), vectors(1, 600)
    live["posterior_mean"][300:] += 1.5
    live["reconstruction_error"][300:] *= 3
    tensors = {name: fit_tensor(name, x, FitSettings(window=WINDOW)) for name, x in reference.items()}
    health = Health(
        reconstruction=AutoencoderBaseline.fit(reference["reconstruction_error"], window=WINDOW),
        posterior=VaeBaseline.fit(reference["posterior_mean"], reference["posterior_log_variance"], window=WINDOW),
    )
    profile, settings = BundleProfile(Profile(tensors, 0), health), CheckSettings(WINDOW)
    verdict = judge_inputs(profile, live, settings)
    evidence = Evidence(profile, verdict, live, None, settings, (("inputs' file", EVIL + "x" * 200),))
    file = tmp_path_factory.mktemp("report") / "report.html"
    file.write_text(rendered(report_of(evidence, title=EVIL)), encoding="utf-8")
    return file


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    program = shutil.which("chromium")
    if program is None:
        pytest.skip("chromium is not installed: apt-get install chromium")
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture
def opened(browser: Browser, report_file: Path) -> Iterator[Page]:
    page = browser.new_page(viewport={"width": 1200, "height": 900})
    page.goto(report_file.as_uri())
    yield page
    page.close()


def test_verdict_first(opened: Page) -> None:
    heading = opened.locator("h1")
    assert heading.inner_text() == "✕ Drift, and the model is unhealthy"
    box = opened.locator("header").bounding_box()
    assert box is not None
    assert box["y"] + box["height"] < 400
    assert "since input 300" in opened.locator("header").inner_text()
    assert opened.title() == f"Drift, and the model is unhealthy: {EVIL}"  # read as text, not run


def test_served_or_from_disk_it_asks_for_nothing(browser: Browser, report_file: Path) -> None:
    asked: list[str] = []

    class Handler(SimpleHTTPRequestHandler):
        def __init__(self, *arguments: object) -> None:
            super().__init__(*arguments, directory=str(report_file.parent))  # type: ignore[arg-type]

        def log_message(self, format: str, *_: object) -> None:
            asked.append(self.path)

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        page = browser.new_page()
        requests, complaints = [], []
        page.on("request", lambda request: requests.append(request.url))
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(f"http://127.0.0.1:{server.server_port}/report.html", wait_until="networkidle")
        for summary in page.locator("summary").all():
            summary.click()
        page.wait_for_load_state("networkidle")
        page.close()
        server.shutdown()
    assert asked == ["/report.html"]
    assert [url for url in requests if not url.startswith("data:")] == [requests[0]]
    assert complaints == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 768, 1440])
def test_fits_every_screen(opened: Page, tmp_path: Path, scheme: str, width: int) -> None:
    opened.set_viewport_size({"width": width, "height": 800})
    opened.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    for summary in opened.locator("summary").all():
        summary.click()
    assert opened.evaluate("document.documentElement.scrollWidth") <= width
    overflowing = opened.evaluate(
        """() => [...document.querySelectorAll('figure, .alarms, header, .lanes')]
             .filter(e => e.scrollWidth > e.clientWidth + 1).map(e => e.innerText.slice(0, 40))"""
    )
    assert overflowing == []
    # A chart's texts stay readable: at least 8 CSS pixels.
    sizes = opened.evaluate(
        """() => [...document.querySelectorAll('figure svg')]
             .map(svg => 10.5 * svg.clientWidth / svg.viewBox.baseVal.width)"""
    )
    assert min(sizes) >= 8
    assert contrast(opened) >= 4.5
    opened.screenshot(path=tmp_path / f"{scheme}-{width}.png", full_page=True)
    assert (tmp_path / f"{scheme}-{width}.png").stat().st_size > 10_000


def contrast(page: Page) -> float:
    """The smallest contrast of the page's texts with their card (WCAG 2.2, 1.4.3), in the colours now in force."""
    colours = page.evaluate(
        """() => {
             const card = getComputedStyle(document.querySelector('figure')).backgroundColor;
             return ['.verdict h1', '.note', 'figcaption', 'summary', '.badge']
               .map(name => [getComputedStyle(document.querySelector(name)).color, card]) }"""
    )
    found = []
    for pair in colours:
        light, dark = sorted((_luminance(colour) for colour in pair), reverse=True)
        found.append((light + 0.05) / (dark + 0.05))
    return min(found)


def _luminance(colour: str) -> float:
    parts = [int(part) / 255 for part in colour.removeprefix("rgb(").removesuffix(")").split(",")]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return float(np.dot(linear, [0.2126, 0.7152, 0.0722]))


def test_charts_are_drawn_inside_their_frames(opened: Page) -> None:
    """No mark lies outside its chart; no chart is empty."""
    outside = opened.evaluate(
        """() => [...document.querySelectorAll('figure svg')].flatMap(svg => {
             const frame = svg.getBoundingClientRect();
             const out = b => b.left < frame.left - 2 || b.right > frame.right + 2
               || b.top < frame.top - 2 || b.bottom > frame.bottom + 2;
             return [...svg.querySelectorAll('rect, circle, text, path')]
               .filter(mark => out(mark.getBoundingClientRect())).map(mark => mark.outerHTML) })"""
    )
    assert outside == []
    marks = opened.evaluate(
        "[...document.querySelectorAll('figure svg')].map(s => s.querySelectorAll('rect, circle').length)"
    )
    assert min(marks) > 3


def test_every_alarm_is_marked_on_a_timeline_and_told(opened: Page) -> None:
    told = [int(number) for number in opened.locator(".alarms .badge").all_inner_texts()]
    marked: list[int] = []
    for words in opened.locator("figure svg text.number").all_text_contents():
        for part in words.split(", "):
            first, _, last = part.partition("-")
            marked += range(int(first), int(last or first) + 1)
    assert sorted(marked) == sorted(told) == list(range(1, len(told) + 1))
    assert len(told) > 3


def test_prints_dark_on_white_without_folded_tables(opened: Page) -> None:
    opened.emulate_media(media="print", color_scheme="dark")
    assert opened.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert contrast(opened) >= 4.5
    assert not opened.locator("details").first.is_visible()
    assert opened.pdf().startswith(b"%PDF")


def test_screen_readers_find_everything(opened: Page) -> None:
    assert opened.locator("main").count() == 1
    named = "s => s.getAttribute('role') == 'img' && s.getAttribute('aria-label')"
    assert opened.evaluate(f"[...document.querySelectorAll('svg')].every({named})")
    headed = "t => t.caption && t.querySelector('th[scope=col]')"
    assert opened.evaluate(f"[...document.querySelectorAll('table')].every({headed})")
    levels = opened.evaluate("[...document.querySelectorAll('h1,h2,h3,h4')].map(h => +h.tagName[1])")
    assert levels[0] == 1
    assert levels.count(1) == 1
