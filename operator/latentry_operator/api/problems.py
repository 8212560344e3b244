"""pydantic's errors -> problems in the user's words: the path as written, the value, what to write instead."""

import difflib
import json
from collections.abc import Iterator, Sequence
from typing import Any

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from latentry_operator.api.base import DNS_1035_LABEL, DNS_1123_LABEL, DNS_1123_SUBDOMAIN
from latentry_operator.api.schema import Schema, schema_at
from latentry_serving.contract.errors import Problem

Location = tuple[str | int, ...]

_SHOWN = 60
_TYPES = {
    "string": "text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "array": "a list",
    "object": "a mapping of fields",
}
_FORMS = {
    DNS_1035_LABEL: "use lower-case letters, digits and '-', starting with a letter and not ending with '-'",
    DNS_1123_LABEL: "use lower-case letters, digits and '-', not starting or ending with '-'",
    DNS_1123_SUBDOMAIN: "use lower-case letters, digits, '-' and '.', starting and ending with a letter or digit",
}


def format_path(location: Location) -> str:
    """``("spec", "slo", "latency", 0, "within")`` as ``spec.slo.latency[0].within``."""
    parts = (f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)
    return "".join(parts).removeprefix(".")


def problem_of(model: type[BaseModel], error: ErrorDetails) -> Problem:
    """One error of ``model``'s validation as a problem."""
    location: Location = error["loc"]
    schema = schema_at(model, location)
    if schema is None:
        problem, remedy = "unknown field", _known_fields(model, location)
    else:
        problem, remedy = _explain(error, schema, str(location[-1]) if location else "")
    return Problem(format_path(location) or "document", problem, remedy)


def _explain(error: ErrorDetails, schema: Schema, name: str) -> tuple[str, str]:
    value, context = error["input"], error.get("ctx", {})
    match error["type"]:
        case "missing":
            return "missing", f"add it{_example(schema, prefix=f', for example {name}: ')}"
        case "enum" | "literal_error":
            choices = [str(choice) for choice in schema.get("enum", [schema.get("const")])]
            return f"{shown(value)} is not {_any_of(choices)}", f"write {closest(value, choices) or _any_of(choices)}"
        case "value_error":
            problem, _, remedy = str(context["error"]).partition("; ")
            return problem, remedy or "correct it"
        case "string_pattern_mismatch":
            form = _FORMS.get(schema["pattern"], f"write it{_example(schema, prefix=', for example, as ')}")
            return f"{shown(value)} has the wrong form", form
        case "string_too_long" | "string_too_short" | "too_long" | "too_short":
            return _length(value, schema)
        case "greater_than" | "greater_than_equal" | "less_than" | "less_than_equal" | "finite_number":
            return f"{shown(value)} is out of range", f"write {_range(schema)}"
        case _ if "type" in schema:
            return f"{shown(value)} is not {_TYPES[schema['type']]}", _wrong_type(value, schema)
        case _:
            return error["msg"], "correct it"


def shown(value: Any) -> str:
    """A value in an error: short, text in quotes."""
    text = repr(value) if isinstance(value, str) else json.dumps(value, default=str)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def closest(value: object, choices: Sequence[str]) -> str | None:
    """The choice that was probably meant, regardless of case; None when nothing comes near."""
    folded = {choice.casefold(): choice for choice in choices}
    found = difflib.get_close_matches(str(value).casefold(), folded, n=1, cutoff=0.6)
    return folded[found[0]] if found else None


def near_field(model: type[BaseModel], location: Location) -> str | None:
    """The field that a wrong name beside it probably meant."""
    *parent, name = location
    return closest(name, list((schema_at(model, parent) or {}).get("properties", {})))


def _known_fields(model: type[BaseModel], location: Location) -> str:
    *parent, name = location
    known = (schema_at(model, parent) or {}).get("properties", {})
    if near := near_field(model, location):
        return f"did you mean {near}?"
    elsewhere = [format_path(place) for place in _places(model) if place[0] == "spec" and place[-1] == name]
    if elsewhere:
        return f"did you mean {_any_of(elsewhere)}?"
    return f"remove it; known here: {', '.join(known)}" if known else "remove it"


def _places(model: type[BaseModel], location: Location = ()) -> Iterator[Location]:
    schema = schema_at(model, location) or {}
    for name in schema.get("properties", {}):
        yield (*location, name)
        yield from _places(model, (*location, name))


def _example(schema: Schema, *, prefix: str) -> str:
    return f"{prefix}{schema['examples'][0]}" if schema.get("examples") else ""


def _any_of(choices: Sequence[str]) -> str:
    return choices[0] if len(choices) == 1 else f"{', '.join(choices[:-1])} or {choices[-1]}"


def _length(value: Any, schema: Schema) -> tuple[str, str]:
    unit = {"string": "characters", "array": "items", "object": "entries"}[schema["type"]]
    most = schema.get("maxLength", schema.get("maxItems", schema.get("maxProperties")))
    if len(value) == 0:
        return "empty", f"fill it in{_example(schema, prefix=', for example ')}"
    return f"{len(value)} {unit}", f"keep it to {most} {unit}"


def _range(schema: Schema) -> str:
    bounds = [
        *(f"{schema[key]:g} or more" for key in ("minimum",) if key in schema),
        *(f"more than {schema[key]:g}" for key in ("exclusiveMinimum",) if key in schema),
        *(f"at most {schema[key]:g}" for key in ("maximum",) if key in schema),
        *(f"less than {schema[key]:g}" for key in ("exclusiveMaximum",) if key in schema),
    ]
    return f"{'a whole number' if schema['type'] == 'integer' else 'a number'}, {' and '.join(bounds)}"


def _wrong_type(value: Any, schema: Schema) -> str:
    expected = schema["type"]
    if expected == "string" and isinstance(value, int | float):
        return f'write "{json.dumps(value)}" in quotes{_example(schema, prefix=", or for example ")}'
    if expected in ("integer", "number", "boolean") and isinstance(value, str) and _reads_as(value, expected):
        return f"write {value} without quotes"
    if expected == "array":
        return "write a list, each item on a line that starts with '- '"
    if expected == "object":
        return "write its fields below it, indented"
    return f"write {_range(schema) if expected in ('integer', 'number') else _TYPES[expected]}"


def _reads_as(text: str, expected: str) -> bool:
    types: dict[str, tuple[type, ...]] = {"integer": (int,), "number": (int, float), "boolean": (bool,)}
    try:
        return type(json.loads(text)) in types[expected]
    except ValueError:
        return False
