"""Durations and byte sizes with their units written out, as users type them.

Durations follow Go's and Prometheus' spelling (``500us``, ``50ms``, ``1h30m``, ``30d``), byte sizes Kubernetes'
quantity spelling (``16Gi``, ``500M``). A bare number is refused: nobody can tell 50 ms from 50 s.
"""

import re
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, ClassVar, Self

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, core_schema

_NANOSECONDS = {
    "ns": 1,
    "us": 1_000,
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60 * 1_000_000_000,
    "h": 3_600 * 1_000_000_000,
    "d": 86_400 * 1_000_000_000,
}
_BYTES = {
    "": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12,
    "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40,
}  # fmt: skip
_DURATION_PART = re.compile(r"(\d+(?:\.\d+)?)(ns|us|ms|s|m|h|d)")
_BYTE_QUANTITY = re.compile(r"(\d+(?:\.\d+)?)([kMGT]|[KMGT]i)?")


class Parsed:
    """For pydantic: read by ``parse``, serialised as ``str`` gives it."""

    @classmethod
    def parse(cls, text: object) -> Self:
        raise NotImplementedError

    @classmethod
    def __get_pydantic_core_schema__(cls, _source: Any, _handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(
            lambda value: value if isinstance(value, cls) else cls.parse(value),
            serialization=core_schema.to_string_ser_schema(),
        )


class _TextUnit(Parsed):
    PATTERN: ClassVar[str]

    @classmethod
    def __get_pydantic_json_schema__(cls, _schema: CoreSchema, _handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"type": "string", "pattern": cls.PATTERN}


@dataclass(frozen=True, slots=True, order=True)
class Duration(_TextUnit):
    """A length of time, exact to the nanosecond."""

    nanoseconds: int

    PATTERN: ClassVar[str] = r"^([0-9]+(\.[0-9]+)?(ns|us|ms|s|m|h|d))+$"

    @classmethod
    def parse(cls, text: object) -> "Duration":
        """Reads ``1h30m`` and the like.

        Raises:
            ValueError: the text is no duration; the message says what to write instead.
        """
        if isinstance(text, int | float) and not isinstance(text, bool):
            raise ValueError(f"{text} has no unit; write {text}ms or {text}s")  # noqa: TRY004 - pydantic collects ValueError
        if not isinstance(text, str) or not text:
            raise ValueError(f"{text!r} is not a duration; write one like 500us, 50ms, 30s, 5m, 1h or 30d")
        if re.fullmatch(r"\d+(\.\d+)?", text):
            raise ValueError(f"{text} has no unit; write {text}ms or {text}s")
        if not re.fullmatch(cls.PATTERN, text):
            raise ValueError(f"{text!r} is not a duration; write one like 500us, 50ms, 30s, 5m, 1h or 30d")
        total = sum(Decimal(number) * _NANOSECONDS[unit] for number, unit in _DURATION_PART.findall(text))
        return cls(round(total))

    @property
    def seconds(self) -> float:
        return self.nanoseconds / 1e9

    @property
    def microseconds(self) -> int:
        return self.nanoseconds // 1_000

    def __str__(self) -> str:
        for unit in ("d", "h", "m", "s", "ms", "us"):
            if self.nanoseconds and self.nanoseconds % _NANOSECONDS[unit] == 0:
                return f"{self.nanoseconds // _NANOSECONDS[unit]}{unit}"
        return f"{self.nanoseconds}ns" if self.nanoseconds else "0s"


@dataclass(frozen=True, slots=True, order=True)
class ByteSize(_TextUnit):
    """A number of bytes, in Kubernetes' quantity spelling."""

    count: int

    PATTERN: ClassVar[str] = r"^[0-9]+(\.[0-9]+)?([kMGT]|[KMGT]i)?$"

    @classmethod
    def parse(cls, text: object) -> "ByteSize":
        """Reads ``16Gi``, ``500M`` or a plain number of bytes.

        Raises:
            ValueError: the text is no byte quantity; the message says what to write instead.
        """
        match = _BYTE_QUANTITY.fullmatch(str(text)) if isinstance(text, str | int) else None
        if match is None or isinstance(text, bool):
            raise ValueError(f"{text!r} is not a byte quantity; write one like 512Mi, 16Gi or 2G")
        return cls(round(Decimal(match[1]) * _BYTES[match[2] or ""]))

    def __str__(self) -> str:
        for unit in ("Ti", "Gi", "Mi", "Ki"):
            if self.count and self.count % _BYTES[unit] == 0:
                return f"{self.count // _BYTES[unit]}{unit}"
        return str(self.count)
