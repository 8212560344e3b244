"""Durations and byte sizes: parsing, canonical text, refusal of bare numbers, pydantic round trips."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from latentry_serving.contract.units import ByteSize, Duration


@pytest.mark.parametrize(
    ("text", "nanoseconds", "canonical"),
    [
        ("500us", 500_000, "500us"),
        ("0.5ms", 500_000, "500us"),
        ("50ms", 50_000_000, "50ms"),
        ("1h30m", 5_400 * 10**9, "90m"),
        ("30d", 30 * 86_400 * 10**9, "30d"),
        ("0s", 0, "0s"),
        ("7ns", 7, "7ns"),
    ],
)
def test_durations_are_read_and_written_canonically(text: str, nanoseconds: int, canonical: str) -> None:
    duration = Duration.parse(text)
    assert (duration.nanoseconds, str(duration)) == (nanoseconds, canonical)


@pytest.mark.parametrize("bare", ["50", 50, 2.5, "2.5"])
def test_a_bare_number_is_refused_with_what_to_write(bare: object) -> None:
    with pytest.raises(ValueError, match=rf"{bare} has no unit; write {bare}ms or {bare}s"):
        Duration.parse(bare)


@pytest.mark.parametrize("text", ["", "fast", "5 ms", "-5ms", "5mss", None, True, [], "1e3s"])
def test_what_is_no_duration_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match="is not a duration"):
        Duration.parse(text)


@given(st.integers(min_value=0, max_value=10**18))
def test_every_duration_survives_a_round_trip(nanoseconds: int) -> None:
    assert Duration.parse(str(Duration(nanoseconds))) == Duration(nanoseconds)


@pytest.mark.parametrize(
    ("text", "count"),
    [("16Gi", 16 * 2**30), ("500M", 500 * 10**6), ("1.5Ki", 1536), ("12", 12), (12, 12), ("2k", 2000)],
)
def test_byte_sizes_are_read(text: object, count: int) -> None:
    assert ByteSize.parse(text).count == count


@pytest.mark.parametrize("text", ["", "16 Gi", "16GiB", "-1", None, True, 1.5])
def test_what_is_no_byte_size_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match="is not a byte quantity"):
        ByteSize.parse(text)


@given(st.integers(min_value=0, max_value=2**60))
def test_every_byte_size_survives_a_round_trip(count: int) -> None:
    assert ByteSize.parse(str(ByteSize(count))) == ByteSize(count)


class _Holder(BaseModel):
    delay: Duration
    memory: ByteSize


def test_pydantic_reads_and_writes_the_text_form() -> None:
    holder = _Holder.model_validate({"delay": "500us", "memory": "16Gi"})
    assert holder.model_dump(mode="json") == {"delay": "500us", "memory": "16Gi"}
    assert _Holder.model_json_schema()["properties"]["delay"]["type"] == "string"


def test_pydantic_reports_the_remedy() -> None:
    with pytest.raises(ValidationError, match="50 has no unit; write 50ms or 50s"):
        _Holder.model_validate({"delay": 50, "memory": "1"})
