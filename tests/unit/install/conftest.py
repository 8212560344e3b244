"""Helm, kubectl and hadolint, fetched once into the cache; the chart rendered by the real Helm."""

import difflib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from cached_tools import Run, program

ROOT = Path(__file__).parents[3]
HERE = Path(__file__).parent
CHART = ROOT / "charts" / "latentry"


@pytest.fixture(scope="session")
def helm() -> Run:
    return program("helm")


@pytest.fixture(scope="session")
def kubectl() -> Run:
    return program("kubectl")


@pytest.fixture(scope="session")
def hadolint() -> Run:
    return program("hadolint")


@pytest.fixture(scope="session")
def template(helm: Run) -> Callable[..., str]:
    """``template(case, *arguments, kube="1.31.0")``: the chart with the values of values/<case>.yaml, as text."""

    def render(case: str | None, *arguments: str, kube: str = "1.31.0") -> str:
        values = [] if case is None else ["--values", HERE / "values" / f"{case}.yaml"]
        namespace = ["--namespace", "latentry-system", "--kube-version", kube]
        done = helm("template", "latentry", CHART, *namespace, *values, *arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return render


@pytest.fixture(scope="session")
def objects(template: Callable[..., str]) -> Callable[..., list[dict[str, Any]]]:
    """The same, parsed."""
    return lambda *arguments, **more: [one for one in yaml.safe_load_all(template(*arguments, **more)) if one]


@pytest.fixture(scope="session")
def golden() -> Callable[[str, str], None]:
    """``golden(name, text)`` compares with the file beside the tests: delete one and run, and it is written anew."""

    def check(name: str, text: str) -> None:
        path = HERE / "golden" / name
        if not path.exists():
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
            pytest.fail(f"{path.name} was missing and has been written: read it, then run again")
        kept = path.read_text(encoding="utf-8")
        difference = "\n".join(difflib.unified_diff(kept.splitlines(), text.splitlines(), "kept", "rendered", n=2))
        assert not difference, f"{name} differs; if that is meant, delete it and run again\n{difference}"

    return check
