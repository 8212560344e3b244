"""The demo reads the addresses that `latentry up` prints, all of them."""

import dataclasses
import sys
from pathlib import Path

import pytest

from latentry_operator.local.snapshot import Addresses

DIGITS = Path(__file__).parents[3] / "examples" / "digits"


def test_the_demo_takes_every_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(DIGITS))
    import demo

    try:
        fields = {field.name for field in dataclasses.fields(Addresses)}
        assert fields == {field.name for field in dataclasses.fields(demo.Served)}
    finally:
        sys.modules.pop("demo", None)
