"""The report's page: the command, its exit codes, that nothing is loaded and everything from files is escaped."""

import json
import re
import shutil
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from latentry_serving.contract.errors import InvalidInput
from latentry_serving.contract.manifest import MANIFEST_FILE, parse_manifest
from latentry_serving.drift_cli.cli import EXIT_DRIFT, drift_app
from latentry_serving.drift_cli.report_svg import Scale, Svg, label

Save = Callable[[np.ndarray], Path]
Traffic = Callable[[int, int], np.ndarray]
LARGEST_PAGE = 1_000_000


def call(*arguments: object) -> Result:
    return CliRunner().invoke(drift_app, ["report", *(str(argument) for argument in arguments)])


class Page(HTMLParser):
    """Tags with their attributes, and the text outside of styles."""

    def __init__(self, content: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(content)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def count(self, tag: str) -> int:
        return sum(name == tag for name, _ in self.tags)


@pytest.fixture
def page_of(bundle: Path, save: Save, tmp_path: Path) -> Callable[..., Page]:
    def made(inputs: np.ndarray, *arguments: object, code: int) -> Page:
        result = call(bundle, "--inputs", save(inputs), "-o", tmp_path / "r.html", *arguments)
        assert result.exit_code == code, result.output
        return Page((tmp_path / "r.html").read_text(encoding="utf-8"))

    return made


def test_undrifted_inputs(page_of: Callable[..., Page], make_traffic: Traffic) -> None:
    page = page_of(make_traffic(7, 600), code=0)
    assert "No drift" in page.text
    assert "What drifted" not in page.text


def test_drift(page_of: Callable[..., Page], make_traffic: Traffic) -> None:
    page = page_of(make_traffic(7, 600) + 1, code=EXIT_DRIFT)
    assert "from the first input on" in page.text
    for section in ("At a glance", "What drifted", "The model", "Windows and alarms", "What was judged"):
        assert section in page.text
    # Every drawing has a name; every chart has its numbers as a table.
    drawings = [attributes for tag, attributes in page.tags if tag == "svg"]
    assert all(attributes["aria-label"] for attributes in drawings)
    assert page.count("table") == page.count("figure") > 10


def test_the_page_loads_nothing_and_runs_nothing(page_of: Callable[..., Page], make_traffic: Traffic) -> None:
    page = page_of(make_traffic(7, 600) + 1, code=EXIT_DRIFT)
    assert not {"script", "img", "iframe", "object", "embed", "audio", "video", "form"} & {tag for tag, _ in page.tags}
    for tag, attributes in page.tags:
        assert not any(name.startswith("on") or name in ("src", "srcset", "style") for name in attributes), tag
        assert attributes.get("href", "data:,") == "data:,"
    (policy,) = (a["content"] for tag, a in page.tags if tag == "meta" and a.get("http-equiv"))
    assert policy is not None
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "url(" not in (style := next(w for w in page.words if "--page" in w))
    assert "@import" not in style


def test_names_from_files_are_harmless(bundle: Path, make_traffic: Traffic, tmp_path: Path) -> None:
    evil = "<script>alert(1)</script>\"'&"
    copied = tmp_path / "bundle"
    shutil.copytree(bundle, copied)
    manifest = parse_manifest((copied / MANIFEST_FILE).read_bytes(), subject="bundle")
    (copied / MANIFEST_FILE).write_bytes(manifest.model_copy(update={"name": evil, "version": evil}).to_bytes())
    inputs = tmp_path / "<img src=x onerror=alert(2)>.npy"
    np.save(inputs, make_traffic(7, 600) + 1)
    result = call(copied, "--inputs", inputs, "-o", tmp_path / "r.html")
    assert result.exit_code == EXIT_DRIFT, result.output
    page = Page((tmp_path / "r.html").read_text(encoding="utf-8"))
    assert page.count("script") == page.count("img") == 0
    assert f"Drift report of {evil} {evil}" in page.text
    assert "<img src=x onerror=alert(2)>.npy" in page.text


def test_drawings_escape_their_texts() -> None:
    svg = Svg('<b>"&')
    svg.text(1, 2, "<script>x</script>")
    svg.rect(0, 0, 1, 1, "live", "</title><script>")
    root = ElementTree.fromstring(str(svg))
    assert (root.get("aria-label"), root[0].text, root[1][0].text) == (
        '<b>"&',
        "<script>x</script>",
        "</title><script>",
    )


def test_size_is_bounded(page_of: Callable[..., Page], make_traffic: Traffic, tmp_path: Path) -> None:
    inputs = make_traffic(7, 30_000)
    inputs += (np.arange(len(inputs)) % 1200 < 400)[:, None].astype(np.float32)
    page = page_of(inputs, code=EXIT_DRIFT)
    assert (tmp_path / "r.html").stat().st_size < LARGEST_PAGE
    assert "windows are put together in each" in page.text
    assert re.search(r"500 of \d+ inputs, evenly taken, all finite", page.text)


def test_equal_inputs_give_equal_bytes(bundle: Path, make_traffic: Traffic, save: Save, tmp_path: Path) -> None:
    inputs = save(make_traffic(7, 300))
    for name in ("a.html", "b.html"):
        assert call(bundle, "--inputs", inputs, "-o", tmp_path / name).exit_code == 0
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.html", "b.html", "inputs.npy"]


def test_output_is_that_of_check(bundle: Path, make_traffic: Traffic, save: Save, tmp_path: Path) -> None:
    inputs, target = save(make_traffic(7, 600) + 1), tmp_path / "r.html"
    document = json.loads(call(bundle, "--inputs", inputs, "-o", target, "--json").stdout)
    assert document["drift"]
    assert f"report: {target}" in call(bundle, "--inputs", inputs, "-o", target).output
    live = call(bundle, "--inputs", inputs, "-o", target, "--expected-run-time", "30d", "--rate", 50)
    assert live.exit_code == EXIT_DRIFT
    assert "one in 30 d of undrifted traffic, at 50 inputs/s" in Page(target.read_text(encoding="utf-8")).text


def test_places_that_take_no_page(bundle: Path, make_traffic: Traffic, save: Save, tmp_path: Path) -> None:
    inputs = save(make_traffic(7, 600))
    before = inputs.read_bytes()
    for output, problem in (
        (inputs, "is not named as a page; give a name that ends in .html"),
        (tmp_path / "gone" / "r.html", "does not exist"),
    ):
        result = call(bundle, "--inputs", inputs, "--output", output)
        assert isinstance(result.exception, InvalidInput)
        assert problem in str(result.exception)
    (tmp_path / "folder.html").mkdir()
    assert "is a folder" in str(call(bundle, "--inputs", inputs, "--output", tmp_path / "folder.html").exception)
    assert inputs.read_bytes() == before


@pytest.mark.parametrize(
    ("scale", "ticks"),
    [
        (Scale(0, 1, 0, 100), [0, 0.5, 1]),
        (Scale(-5.2, 5.2, 0, 100), [-5, 0, 5]),
        (Scale(1, 1000, 0, 100, logarithmic=True), [1, 10, 100, 1000]),
        (Scale(3, 3, 0, 100), [3]),
    ],
)
def test_ticks_are_round(scale: Scale, ticks: list[float]) -> None:
    assert np.allclose(scale.ticks(3), ticks)
    assert all(0 <= scale(value) <= 100 for value in [*ticks, -1e9, 1e9])


def test_numbers_on_axes_are_short() -> None:
    assert [label(v) for v in (0, 0.5, 1234567, 1e-7, -0.25)] == ["0", "0.5", "1.23e6", "1e-7", "-0.25"]


def test_hours_the_profile_does_not_know_are_no_good_verdict(
    cyclic: Path, make_daily: Callable[..., tuple[np.ndarray, np.ndarray]], save: Save, tmp_path: Path
) -> None:
    inputs, times = make_daily(9, days=6)
    night = times % 86400 < 5 * 3600
    np.save(tmp_path / "times.npy", times[night])
    result = call(
        cyclic, "--inputs", save(inputs[night]), "--timestamps", tmp_path / "times.npy", "-o", tmp_path / "r.html"
    )
    assert isinstance(result.exception, InvalidInput), result.output
    assert "the profile knows no such hours of the day; give inputs of other hours" in str(result.exception)
    assert result.output.startswith("not judged in")
    page = Page((tmp_path / "r.html").read_text(encoding="utf-8"))
    assert "Not judged" in page.text
    assert "No drift" not in page.text
