"""Whole rollouts as readable text, one line for each transition."""

from pathlib import Path

import pytest
from rollout_histories import HISTORIES

FILES = Path(__file__).parent / "files"


@pytest.mark.parametrize("name", HISTORIES)
def test_the_history_is_as_kept(name: str) -> None:
    path, text = FILES / f"{name}.txt", HISTORIES[name]()
    if not path.exists():
        path.write_text(text, encoding="utf-8")
        pytest.fail(f"{path.name} was missing and has been written: read it, then run again")
    assert path.read_text(encoding="utf-8") == text, f"{path.name} differs; if that is meant, delete it and run again"


def test_no_transcript_is_left_over() -> None:
    assert {path.stem for path in FILES.glob("*.txt")} == set(HISTORIES)
