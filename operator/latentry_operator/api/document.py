"""YAML text -> plain data with the line of every field.

Stricter than PyYAML where PyYAML guesses: duplicate keys, keys that are no text and tags are problems; dates stay
text, as for Kubernetes. Aliases are followed, but a document that grows beyond a limit is refused.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml

from latentry_operator.api.problems import Location, format_path
from latentry_serving.contract.errors import Problem

MOST_NODES = 100_000
"""Values in one document. A LatentModel has about a hundred; the limit stops alias bombs."""
MOST_LEVELS = 50
"""Nesting of one document. A LatentModel has six levels; the limit stops aliases that contain themselves."""

_TAGS = {f"tag:yaml.org,2002:{name}" for name in ("str", "int", "float", "bool", "null", "map", "seq", "merge")}
_TIMESTAMP = "tag:yaml.org,2002:timestamp"


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers = {  # noqa: RUF012 - PyYAML declares it so
        first: [(tag, pattern) for tag, pattern in resolvers if tag != _TIMESTAMP]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


@dataclass(frozen=True, slots=True)
class Document:
    """One YAML document.

    Attributes:
        data: plain data; None when ``problems`` made it unusable.
        line: of its first value, counted from 1.
        lines: the line of every field, by its path such as ``spec.slo.latency[0].within``.
        problems: what is wrong with the YAML itself.
    """

    data: Any
    line: int
    lines: dict[str, int]
    problems: tuple[Problem, ...]

    def line_of(self, path: str) -> int:
        """The line of a field, or of the nearest field around it that is there."""
        while path not in self.lines:
            cut = max(path.rfind("."), path.rfind("["))
            if cut <= 0:
                return self.line
            path = path[:cut]
        return self.lines[path]


def read_documents(text: str) -> tuple[list[Document], list[Problem]]:
    """The documents of a YAML text, empty ones left out, and the syntax error that ended the reading, if any."""
    documents = []
    try:
        loader = _Loader(text)
        while loader.check_node():
            node = loader.get_node()
            if node is not None and node.tag != "tag:yaml.org,2002:null":
                documents.append(_document(loader, node))
    except yaml.YAMLError as error:
        return documents, [_syntax_problem(error)]
    except RecursionError:  # PyYAML composes nested values recursively
        return documents, [Problem("YAML", "nested too deeply", f"keep it to {MOST_LEVELS} levels")]
    return documents, []


def _document(loader: _Loader, root: yaml.Node) -> Document:
    lines: dict[str, int] = {}
    problems: list[Problem] = []
    start = root.start_mark.line + 1
    pending: list[tuple[yaml.Node, Location]] = [(root, ())]
    count = 0
    while pending:
        node, location = pending.pop()
        count += 1
        if count > MOST_NODES or len(location) > MOST_LEVELS:
            problem = f"more than {MOST_NODES} values or {MOST_LEVELS} levels"
            too_big = Problem("document", problem, "write it without aliases (*name)", start)
            return Document(None, start, lines, (too_big,))
        if node.tag not in _TAGS:
            line = node.start_mark.line + 1
            problems.append(Problem(_place(location), f"tag {node.tag} is not allowed", "remove the tag", line))
        pending.extend(_children(node, location, lines, problems))
    problems.sort(key=lambda problem: problem.line or 0)
    return Document(None if problems else loader.construct_document(root), start, lines, tuple(problems))


def _children(
    node: yaml.Node, location: Location, lines: dict[str, int], problems: list[Problem]
) -> Iterator[tuple[yaml.Node, Location]]:
    if isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            lines[format_path((*location, index))] = item.start_mark.line + 1
            yield item, (*location, index)
    elif isinstance(node, yaml.MappingNode):
        seen: dict[str, int] = {}
        for key, value in node.value:
            line = key.start_mark.line + 1
            if key.tag == "tag:yaml.org,2002:merge":
                yield value, location
                continue
            if key.tag != "tag:yaml.org,2002:str":
                problem = f"key {key.value if isinstance(key, yaml.ScalarNode) else 'of several values'} is not text"
                problems.append(Problem(_place(location), problem, "put the key in quotes", line))
                continue
            inner = (*location, key.value)
            if key.value in seen:
                problem = f"given twice, first in line {seen[key.value]}"
                problems.append(Problem(_place(inner), problem, "keep one of them", line))
            seen[key.value] = line
            lines[format_path(inner)] = line
            yield value, inner


def _place(location: Location) -> str:
    return format_path(location) or "document"


def _syntax_problem(error: yaml.YAMLError) -> Problem:
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        reason = " ".join(part for part in (error.problem, error.context) if part)
        return Problem("YAML", reason, "correct the syntax here or just above", error.problem_mark.line + 1)
    return Problem("YAML", " ".join(str(error).split()), "save the file as plain UTF-8 text")
