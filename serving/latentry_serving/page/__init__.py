"""The page: HTML, CSS and JavaScript, served as they are. No build step, nothing from elsewhere.

``tokens.css`` (colours, spacing, type for light and dark) and ``vendor/`` (uPlot) serve other pages too.
"""

from importlib.resources import files
from importlib.resources.abc import Traversable


def asset(name: str) -> Traversable:
    """A file of this package by its path in it, such as ``vendor/uPlot.iife.min.js``."""
    return files(__name__).joinpath(*name.split("/"))
