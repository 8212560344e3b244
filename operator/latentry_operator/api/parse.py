"""One resource from JSON-like data: every problem at once, of single fields and across fields."""

import copy
import json
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from latentry_operator.api.base import API_VERSION
from latentry_operator.api.gpupool import GPUPool
from latentry_operator.api.latentmodel import LatentModel
from latentry_operator.api.problems import Location, closest, format_path, near_field, problem_of, shown
from latentry_operator.api.schema import schema_at
from latentry_operator.api.validation import Resource, problems_of
from latentry_serving.contract.errors import InvalidInput, Problem

KINDS: dict[str, type[LatentModel] | type[GPUPool]] = {"LatentModel": LatentModel, "GPUPool": GPUPool}

_REPAIRS = 6
"""Rounds of filling in what is missing: each goes one level deeper, and the deepest required field is four down."""


def parse_resource(data: Mapping[str, Any], *, subject: str) -> Resource:
    """A resource from JSON-like data, as an API server or a YAML file gives it.

    Args:
        data: the whole object; ``null`` is the same as leaving a field out, as on the API server.
        subject: how to name it in errors.

    Raises:
        InvalidInput: with every problem found.
    """
    resource, problems = check_resource(data)
    if resource is None:
        raise InvalidInput(subject, problems)
    return resource


def check_resource(data: Mapping[str, Any]) -> tuple[Resource | None, list[Problem]]:
    """As :func:`parse_resource`, but gives back the problems; the resource is None when there are any."""
    kind, problems = _kind_of(data)
    if kind is None:
        return None, problems
    present = _without_nulls(data)
    try:
        resource = _validated(kind, present)
    except ValidationError as error:
        problems = [problem_of(kind, entry) for entry in error.errors()]
        return None, problems + _problems_of_the_rest(kind, present, error)
    problems = problems_of(resource)
    return (None if problems else resource), problems


def _kind_of(data: Mapping[str, Any]) -> tuple[type[LatentModel] | type[GPUPool] | None, list[Problem]]:
    problems = []
    version, name = data.get("apiVersion"), data.get("kind")
    if version != API_VERSION:
        problem = "missing" if version is None else f"{shown(version)} is not known"
        problems.append(Problem("apiVersion", problem, f"write apiVersion: {API_VERSION}"))
    kind = KINDS.get(name) if isinstance(name, str) else None
    if kind is None:
        problem = "missing" if name is None else f"{shown(name)} is not known"
        problems.append(Problem("kind", problem, f"write kind: {closest(name, list(KINDS)) or ' or '.join(KINDS)}"))
    return (None if problems else kind), problems


def _validated(kind: type[LatentModel] | type[GPUPool], data: Any) -> Resource:
    # JSON's strict mode: a number in quotes is text, as for the API server, while enumerations are read from text.
    return kind.model_validate_json(json.dumps(data), strict=True)


def _without_nulls(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_without_nulls(item) for item in value]
    return value


def _problems_of_the_rest(kind: type[LatentModel] | type[GPUPool], data: Any, error: ValidationError) -> list[Problem]:
    """Problems across fields in what is well typed.

    Stand-ins take the place of what is not: the default or the field's example. A problem beside a stand-in may be the
    stand-in's own fault, so it is left for when the field has been corrected.
    """
    patched = copy.deepcopy(data)
    beside: set[str] = set()
    for _ in range(_REPAIRS):
        for entry in error.errors():
            _repair(kind, patched, entry["loc"])
            # A field nobody knows says nothing about its neighbours, unless it is one of them misspelt.
            if entry["type"] != "extra_forbidden" or near_field(kind, entry["loc"]):
                beside.add(_section(format_path(entry["loc"])))
        try:
            resource = _validated(kind, patched)
        except ValidationError as next_error:
            error = next_error
        else:
            return [problem for problem in problems_of(resource) if _section(problem.path) not in beside]
    return []


def _repair(kind: type[LatentModel] | type[GPUPool], data: Any, location: Location) -> None:
    *parents, last = location
    for part in parents:
        data = data[part]
    schema = schema_at(kind, location)
    required = (schema_at(kind, parents) or {}).get("required", ())
    if isinstance(last, int) or last in required:
        examples = (schema or {}).get("examples", [{}])
        data[last] = examples[0]
    else:
        data.pop(last, None)


def _section(path: str) -> str:
    """The mapping that a field stands in, the same for every item of a list."""
    outer = path.rpartition(".")[0]
    return outer.partition("[")[0]
