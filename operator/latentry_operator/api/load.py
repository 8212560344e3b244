"""Resources from YAML files, with every problem of every document and its line."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from latentry_operator.api.document import Document, read_documents
from latentry_operator.api.latentmodel import LatentModel
from latentry_operator.api.parse import check_resource
from latentry_operator.api.problems import shown
from latentry_operator.api.validation import Resource
from latentry_serving.contract.errors import InvalidInput, Problem


@dataclass(frozen=True, slots=True)
class FileResult:
    """What became of one file.

    Attributes:
        path: the file.
        resources: in the order of the file; empty when there is an error.
        error: every problem of the file, or None.
    """

    path: Path
    resources: tuple[Resource, ...]
    error: InvalidInput | None

    @property
    def summary(self) -> str:
        """What the file holds, as ``LatentModel digits-vae, GPUPool a10``."""
        return ", ".join(f"{resource.kind} {resource.metadata.name}" for resource in self.resources)


def load_documents(text: str, *, subject: str) -> tuple[Resource, ...]:
    """The resources of a YAML text of one or more documents.

    Args:
        text: the YAML.
        subject: how to name it in errors, usually the file.

    Raises:
        InvalidInput: with every problem of every document.
    """
    documents, problems = read_documents(text)
    if not documents and not problems:
        problems = [Problem("document", "the file is empty", "write a LatentModel or a GPUPool")]
    resources: list[Resource] = []
    for document in documents:
        resource, found = _check(document)
        problems += found
        if resource is not None:
            problems += _twice(resource, resources, document)
            resources.append(resource)
    if problems:
        raise InvalidInput(subject, problems)
    return tuple(resources)


def load_file(path: Path) -> tuple[Resource, ...]:
    """The resources of one YAML file. Raises InvalidInput, also when the file cannot be read."""
    return load_documents(_read(path), subject=str(path))


def validate_files(paths: Iterable[Path]) -> list[FileResult]:
    """Reads every file and tells about each; raises nothing for bad input."""
    results = []
    for path in paths:
        try:
            results.append(FileResult(path, load_file(path), None))
        except InvalidInput as error:
            results.append(FileResult(path, (), error))
    return results


def load_files(paths: Sequence[Path]) -> tuple[Resource, ...]:
    """The resources of several files that are used together.

    Raises:
        InvalidInput: with every problem of every file, or for an object that stands in two of them.
    """
    results = validate_files(paths)
    errors = [result.error for result in results if result.error is not None]
    if errors:
        raise InvalidInput.merged(f"{len(errors)} files", errors)
    first: dict[tuple[str, ...], Path] = {}
    for result in results:
        for resource in result.resources:
            earlier = first.setdefault(_identity(resource), result.path)
            if earlier is not result.path:
                raise InvalidInput.one(
                    str(result.path),
                    path="metadata.name",
                    problem=f"{resource.kind} {resource.metadata.name} stands in {earlier} already",
                    remedy="keep one of them or give it another name",
                )
    return tuple(resource for result in results for resource in result.resources)


def _check(document: Document) -> tuple[Resource | None, list[Problem]]:
    if document.problems:
        return None, list(document.problems)
    if not isinstance(document.data, dict):
        problem = f"{shown(document.data)} is no resource"
        return None, [Problem("document", problem, "start with apiVersion, kind, metadata and spec", document.line)]
    resource, problems = check_resource(document.data)
    lined = [replace(problem, line=document.line_of(problem.path)) for problem in problems]
    return resource, sorted(lined, key=lambda problem: problem.line or 0)


def _twice(resource: Resource, earlier: Sequence[Resource], document: Document) -> list[Problem]:
    if all(_identity(resource) != _identity(other) for other in earlier):
        return []
    problem = f"a second {resource.kind} {resource.metadata.name}"
    return [Problem("metadata.name", problem, "give it another name", document.line_of("metadata.name"))]


def _identity(resource: Resource) -> tuple[str, ...]:
    namespace = resource.metadata.namespace or "" if isinstance(resource, LatentModel) else ""
    return resource.kind, namespace, resource.metadata.name


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise InvalidInput.one(
            str(path), path=f"byte {error.start}", problem="not UTF-8 text", remedy="save the file as UTF-8"
        ) from error
    except OSError as error:
        raise InvalidInput.one(
            str(path), path="file", problem=error.strerror or str(error), remedy="name a YAML file that you may read"
        ) from error
