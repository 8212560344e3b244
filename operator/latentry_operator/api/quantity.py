"""CPU amounts in Kubernetes' spelling."""

import re
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from pydantic import GetJsonSchemaHandler
from pydantic_core import CoreSchema

from latentry_serving.contract.units import Parsed

MAX_CORES = 1024
MAX_LENGTH = 16
_TEXT = re.compile(r"([0-9]+)m|([0-9]+(?:\.[0-9]{1,3})?)")
_WRONG = 'is not a CPU amount; write cores such as 2 or "0.5", or thousandths of a core such as 500m'


@dataclass(frozen=True, slots=True, order=True)
class Cpu(Parsed):
    """Processor time in thousandths of a core.

    A schema of the API server knows whole numbers or text in one field, as resource.Quantity in every CRD, but no
    number with a fraction: so half a core is ``500m`` or ``"0.5"``.
    """

    millicores: int

    @classmethod
    def parse(cls, value: object) -> "Cpu":
        """Reads 2, "2", "0.5" or 500m.

        Raises:
            ValueError: no CPU amount, or a whole number out of range; the message says what to write instead.
        """
        if isinstance(value, bool) or not isinstance(value, int | float | str):
            raise ValueError(f"{value!r} {_WRONG}")  # noqa: TRY004 - pydantic collects ValueError
        if isinstance(value, str):
            match = _TEXT.fullmatch(value) if len(value) <= MAX_LENGTH else None
            if match is None:
                raise ValueError(f"{value[:MAX_LENGTH]!r} {_WRONG}")
            return cls(int(match[1]) if match[1] else int(Decimal(match[2]) * 1000))
        if value != int(value):
            raise ValueError(f'{value} is no whole number; write {value * 1000:.0f}m or "{value}" in quotes')
        if not 1 <= value <= MAX_CORES:
            raise ValueError(f"{value:g} is out of range; write 1 to {MAX_CORES} cores, or less than one as 500m")
        return cls(int(value) * 1000)

    def __str__(self) -> str:
        return f"{self.millicores}m" if self.millicores % 1000 else str(self.millicores // 1000)

    @classmethod
    def __get_pydantic_json_schema__(cls, _schema: CoreSchema, _handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {
            "anyOf": [{"type": "integer"}, {"type": "string"}],
            "x-kubernetes-int-or-string": True,
            "pattern": f"^({_TEXT.pattern})$".replace("?:", ""),
            "maxLength": MAX_LENGTH,
            "minimum": 1,
            "maximum": MAX_CORES,
        }
