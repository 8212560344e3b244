"""The shape of the repository that the packages rely on."""

from pathlib import Path

ROOT = Path(__file__).parents[3]


def test_no_python_file_lies_directly_in_operator_or_serving() -> None:
    """``operator/__init__.py`` would shadow the standard library's operator module."""
    assert [str(p) for folder in ("operator", "serving") for p in (ROOT / folder).glob("*.py")] == []


def test_the_top_level_is_what_users_were_promised() -> None:
    promised = ["pyproject.toml", "README.md", "operator", "serving", "charts", "manifests", "tests", "Dockerfile"]
    assert [name for name in promised if not (ROOT / name).exists()] == []


def test_ci_calls_make_test() -> None:
    assert "make test" in (ROOT / ".ci/run").read_text()
