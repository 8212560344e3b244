"""Reads the tap's configuration: a YAML or JSON file, then ``LATENTRY_TAP_*`` from the environment on top."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError
from pydantic.alias_generators import to_camel

from latentry_serving.contract.errors import InvalidInput, Problem
from latentry_serving.contract.tap_config import Address, TapConfig

ENVIRONMENT_PREFIX = "LATENTRY_TAP_"
_FIELDS = {ENVIRONMENT_PREFIX + name.upper(): name for name in TapConfig.model_fields}
_ADDRESSES = frozenset(name for name, field in TapConfig.model_fields.items() if field.annotation is Address)


def load_config(path: Path | None, environment: Mapping[str, str] = os.environ) -> TapConfig:
    """The configuration from a file and the environment; defaults where both are silent.

    An environment variable is named after its key in capitals (``drainSeconds``: ``LATENTRY_TAP_DRAIN_SECONDS``);
    its value is YAML, an address is ``host:port``.

    Raises:
        InvalidInput: the file cannot be read, or a key is unknown or wrong; every problem names its key.
    """
    values = _from_file(path) if path is not None else {}
    origins: dict[str, str] = {}
    problems = []
    for variable, text in environment.items():
        if not variable.startswith(ENVIRONMENT_PREFIX):
            continue
        name = _FIELDS.get(variable)
        if name is None:
            problems.append(Problem(variable, "no such setting", f"use one of {', '.join(sorted(_FIELDS))}"))
            continue
        key = to_camel(name)
        values.pop(name, None)
        values[key] = _from_text(name, text)
        origins[key] = variable
    try:
        config = TapConfig.model_validate(values)
    except ValidationError as error:
        problems += [_problem(entry, origins) for entry in error.errors()]
    if problems:
        raise InvalidInput(f"tap configuration {path or 'from the environment'}", problems)
    return config


def _from_file(path: Path) -> dict[str, Any]:
    subject = f"tap configuration {path}"
    try:
        values = yaml.safe_load(path.read_text())
    except OSError as error:
        raise InvalidInput.one(
            subject, path=str(path), problem=error.strerror or str(error), remedy="give the path of a readable file"
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InvalidInput.one(
            subject, path=str(path), problem=f"neither YAML nor JSON: {error}", remedy="correct the file"
        ) from error
    if values is None:
        return {}
    if not isinstance(values, dict) or not all(isinstance(key, str) for key in values):
        raise InvalidInput.one(
            subject,
            path=str(path),
            problem="not a mapping of keys to values",
            remedy="write lines such as model: digits",
        )
    return values


def _from_text(name: str, text: str) -> object:
    """A variable's value; what cannot be read stays text, and its validation names it."""
    if name in _ADDRESSES:
        host, colon, port = text.rpartition(":")
        return {"host": host.strip("[]"), "port": port} if colon else text
    if TapConfig.model_fields[name].annotation is str:
        return text
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return text


def _problem(entry: Any, origins: Mapping[str, str]) -> Problem:
    location = [str(part) for part in entry["loc"]]
    key = ".".join(location) or "configuration"
    where = key
    if location and location[0] in origins:  # the variable, and what is wrong inside its value
        where = ": ".join(part for part in (origins[location[0]], ".".join(location[1:])) if part)
    message, value = entry["msg"], entry.get("input")
    if entry["type"] == "extra_forbidden" and len(location) > 1:
        return Problem(where, "no such key", "remove it")
    if entry["type"] == "extra_forbidden":
        keys = ", ".join(to_camel(name) for name in TapConfig.model_fields)
        return Problem(where, "no such key", f"remove it or use one of {keys}")
    shown = "" if isinstance(value, dict) else f" (got {value!r})"
    return Problem(where, f"{message}{shown}", "correct the value, or remove it to use the default")
