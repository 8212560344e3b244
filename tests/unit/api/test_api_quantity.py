"""CPU amounts: every spelling users know, to the thousandth of a core."""

import pytest

from latentry_operator.api.quantity import Cpu


@pytest.mark.parametrize(
    ("written", "millicores", "canonical"),
    [(2, 2000, "2"), ("2", 2000, "2"), ("0.5", 500, "500m"), ("500m", 500, "500m"), ("1.125", 1125, "1125m"),
     ("2000m", 2000, "2"), (2.0, 2000, "2"), ("1000m", 1000, "1")],
)  # fmt: skip
def test_one_amount_however_it_is_written(written: object, millicores: int, canonical: str) -> None:
    assert Cpu.parse(written) == Cpu(millicores)
    assert str(Cpu.parse(written)) == canonical
    assert Cpu.parse(canonical) == Cpu(millicores)


@pytest.mark.parametrize(
    "wrong", ["", "m", "-1", "0.5m", "1.2345", "1e3", "2 ", "9" * 17, None, [], True, 0.5, 0, 1025]
)
def test_everything_else_is_refused(wrong: object) -> None:
    with pytest.raises(ValueError, match="write"):
        Cpu.parse(wrong)


def test_amounts_compare_by_size() -> None:
    assert Cpu.parse("500m") < Cpu.parse(1) < Cpu.parse("1.5")
