"""Pydantic types -> Kubernetes structural schemas.

A structural schema is a subset of OpenAPI v3.0: no ``$ref``, one ``type`` per value, ``exclusiveMinimum`` as a flag, no
``additionalProperties: false``. Source: Kubernetes documentation, "Specifying a structural schema".
"""

import re
from collections.abc import Iterable
from functools import cache
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema

from latentry_serving.contract.units import ByteSize, Duration

Schema = dict[str, Any]

_DROPPED = frozenset({"title", "examples", "additionalProperties", "const"})
_FIRST = ("description", "type", "format", "enum", "default", "pattern")
_LAST = ("required", "properties", "additionalProperties", "items", "x-kubernetes-validations")


class _Generator(GenerateJsonSchema):
    def encode_default(self, dft: Any) -> Any:
        return str(dft) if isinstance(dft, Duration | ByteSize) else super().encode_default(dft)


def structural_schema(model: type[BaseModel], *, observed: bool = False) -> Schema:
    """The structural schema of a type, as a new value.

    Args:
        model: the type; its fields' docstrings become descriptions.
        observed: it is a status: nobody defaults what has not been observed, so defaults go into descriptions only.
    """
    raw = {key: value for key, value in _raw(model).items() if key != "$defs"}
    return _convert(raw, _raw(model).get("$defs", {}), observed=observed)


@cache
def _raw(model: type[BaseModel]) -> Schema:
    return model.model_json_schema(by_alias=True, schema_generator=_Generator)


def schema_at(model: type[BaseModel], location: Iterable[str | int]) -> Schema | None:
    """The JSON schema of one place in a type, its examples included; None for a place the type does not have.

    Args:
        model: the type of the whole.
        location: camelCase field names, map keys and list indices from the outside in.
    """
    definitions = _raw(model)["$defs"]
    schema = _raw(model)
    for part in location:
        inner = schema.get("items") if isinstance(part, int) else schema.get("properties", {}).get(part)
        if inner is None and isinstance(schema.get("additionalProperties"), dict):
            inner = schema["additionalProperties"]
        if inner is None:
            return None
        schema = _resolve(inner, definitions)
    return schema


def _convert(raw: Schema, definitions: dict[str, Schema], *, observed: bool) -> Schema:
    source = _resolve(raw, definitions)
    schema = {key: value for key, value in source.items() if key not in _DROPPED and value is not None}
    if "anyOf" in schema:
        schema["anyOf"] = [dict(option) for option in schema["anyOf"]]
    if "const" in source:
        schema |= {"type": "string", "enum": [source["const"]]}
    for bound in ("Minimum", "Maximum"):
        exclusive = f"exclusive{bound}"
        if exclusive in schema:
            schema |= {bound.lower(): schema[exclusive], exclusive: True}
    if "description" in schema:
        schema["description"] = re.sub(r"\s+", " ", schema["description"]).strip()
    if isinstance(source.get("additionalProperties"), dict):
        schema["additionalProperties"] = _convert(source["additionalProperties"], definitions, observed=observed)
    if "items" in schema:
        schema["items"] = _convert(schema["items"], definitions, observed=observed)
    if "properties" in schema:
        required, properties = frozenset(schema.get("required", ())), {}
        for name, field in schema["properties"].items():
            inner = _convert(field, definitions, observed=observed)
            properties[name] = _described(inner, required=name in required, observed=observed)
        schema["properties"] = properties
    return _in_reading_order(schema)


def _resolve(raw: Schema, definitions: dict[str, Schema]) -> Schema:
    """Follows a reference and takes ``null`` out of a union; what stands beside the reference wins."""
    if "anyOf" in raw and "x-kubernetes-int-or-string" not in raw:
        (present,) = [option for option in raw["anyOf"] if option.get("type") != "null"]
        return _resolve(present | {key: value for key, value in raw.items() if key != "anyOf"}, definitions)
    if "$ref" in raw:
        target = definitions[raw["$ref"].removeprefix("#/$defs/")]
        return _resolve(target | {key: value for key, value in raw.items() if key != "$ref"}, definitions)
    return raw


def _described(schema: Schema, *, required: bool, observed: bool) -> Schema:
    """Puts the default where it works (a schema default) and where people read it (the description)."""
    notes = ["Required."] if required else []
    if "default" in schema:
        default = schema.pop("default")
        if "properties" in schema:
            # {} is enough: the server then fills in the nested defaults, where there are any.
            if any("default" in nested for nested in schema["properties"].values()):
                schema["default"] = {}
        elif default in ([], {}):
            notes.append("Left out: empty.")
        else:
            notes.append(f"{'Left out' if observed else 'Default'}: {_as_written(default)}.")
            if not observed:
                schema["default"] = default
    schema["description"] = " ".join([schema.get("description", ""), *notes]).strip()
    return _in_reading_order(schema)


def _in_reading_order(schema: Schema) -> Schema:
    middle = sorted(schema.keys() - {*_FIRST, *_LAST})
    return {key: schema[key] for key in (*_FIRST, *middle, *_LAST) if key in schema}


def _as_written(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)
