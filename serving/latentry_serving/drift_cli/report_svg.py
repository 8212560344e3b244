"""A little SVG: scales, axes and marks, as elements that escape what they hold. Colours are the page's (CSS classes).

Charts are ``WIDTH`` units wide and drawn for about as many pixels, so that their texts stay readable on a phone.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from xml.etree import ElementTree

WIDTH, HEIGHT = 340.0, 190.0
LEFT, RIGHT, TOP, BOTTOM = 42.0, 10.0, 10.0, 34.0


@dataclass(frozen=True, slots=True)
class Scale:
    """Values from ``low`` to ``high`` onto units from ``start`` to ``stop``; values beyond are kept at the ends."""

    low: float
    high: float
    start: float
    stop: float
    logarithmic: bool = False

    def __call__(self, value: float) -> float:
        low, high = self._own(self.low), self._own(self.high)
        share = (self._own(value) - low) / (high - low) if high > low else 0.5
        return self.start + min(max(share, 0.0), 1.0) * (self.stop - self.start)

    def _own(self, value: float) -> float:
        return math.log(max(value, 1e-300)) if self.logarithmic else value

    def ticks(self, count: int = 4) -> list[float]:
        """Round values inside, about so many; powers of ten on a logarithmic scale."""
        if self.logarithmic:
            powers = range(math.ceil(math.log10(self.low) - 1e-9), math.floor(math.log10(self.high) + 1e-9) + 1)
            return [10.0**power for power in powers][:: max(1, len(powers) // count)]
        extent = self.high - self.low
        if not extent > 0:
            return [self.low]
        rough = extent / count
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)
        first = math.ceil(self.low / step - 1e-9)
        return [step * i for i in range(first, math.floor(self.high / step + 1e-9) + 1)]


def x_scale(low: float, high: float, *, logarithmic: bool = False) -> Scale:
    return Scale(low, high, LEFT, WIDTH - RIGHT, logarithmic)


def y_scale(low: float, high: float, bottom: float = HEIGHT - BOTTOM) -> Scale:
    return Scale(low, high, bottom, TOP)


def label(value: float) -> str:
    """A number as an axis has it."""
    return f"{value:.3g}".replace("e+0", "e").replace("e-0", "e-")


class Svg:
    """One drawing with a title for screen readers."""

    def __init__(self, title: str, width: float = WIDTH, height: float = HEIGHT, *, stretched: bool = False) -> None:
        self._root = ElementTree.Element("svg", {"viewBox": f"0 0 {width:g} {height:g}", "role": "img"})
        if stretched:
            self._root.set("preserveAspectRatio", "none")
        self._root.set("aria-label", title)

    def rect(self, x: float, y: float, width: float, height: float, css: str, tip: str = "") -> None:
        self._mark("rect", css, tip, x=x, y=y, width=max(width, 0.0), height=max(height, 0.0))

    def line(self, x1: float, y1: float, x2: float, y2: float, css: str, tip: str = "") -> None:
        self._mark("line", css, tip, x1=x1, y1=y1, x2=x2, y2=y2)

    def circle(self, x: float, y: float, radius: float, css: str, tip: str = "") -> None:
        self._mark("circle", css, tip, cx=x, cy=y, r=radius)

    def ellipse(self, x: float, y: float, rx: float, ry: float, css: str, tip: str = "") -> None:
        self._mark("ellipse", css, tip, cx=x, cy=y, rx=rx, ry=ry)

    def path(self, points: Iterable[tuple[float, float] | None], css: str, tip: str = "") -> None:
        """Straight lines through points; None leaves a gap."""
        steps, pen = [], "M"
        for point in points:
            if point is None:
                pen = "M"
                continue
            steps.append(f"{pen}{point[0]:.1f} {point[1]:.1f}")
            pen = "L"
        if steps:
            self._titled("path", css, tip).set("d", "".join(steps))

    def text(self, x: float, y: float, words: str, css: str = "tick", anchor: str = "middle") -> None:
        element = self._mark("text", css, "", x=x, y=y)
        element.set("text-anchor", anchor)
        element.text = words

    def x_axis(self, scale: Scale, words: str, ticks: Sequence[tuple[float, str]] | None = None) -> None:
        bottom = HEIGHT - BOTTOM
        self.line(scale.start, bottom, scale.stop, bottom, "axis")
        for value, text in [(v, label(v)) for v in scale.ticks(5)] if ticks is None else ticks:
            self.line(scale(value), bottom, scale(value), bottom + 3, "axis")
            self.text(scale(value), bottom + 13, text)
        self.text((scale.start + scale.stop) / 2, HEIGHT - 5, words, "name")

    def y_axis(self, scale: Scale, ticks: Sequence[tuple[float, str]] | None = None) -> None:
        for value, text in [(v, label(v)) for v in scale.ticks()] if ticks is None else ticks:
            self.line(LEFT, scale(value), WIDTH - RIGHT, scale(value), "grid")
            self.text(LEFT - 4, scale(value) + 3.5, text, anchor="end")

    def __str__(self) -> str:
        return ElementTree.tostring(self._root, encoding="unicode", short_empty_elements=True)

    def _mark(self, tag: str, css: str, tip: str, **numbers: float) -> ElementTree.Element:
        element = self._titled(tag, css, tip)
        for name, value in numbers.items():
            element.set(name, f"{value:.1f}".removesuffix(".0"))
        return element

    def _titled(self, tag: str, css: str, tip: str) -> ElementTree.Element:
        element = ElementTree.SubElement(self._root, tag, {"class": css})
        if tip:
            ElementTree.SubElement(element, "title").text = tip
        return element


@dataclass(frozen=True, slots=True)
class Table:
    """Numbers for those who do not see the drawing: a header, and rows of cells."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class Figure:
    """One drawing. ``legend``: pairs of a CSS class and what it stands for."""

    title: str
    note: str
    svg: Svg
    legend: tuple[tuple[str, str], ...]
    table: Table
