"""``latentry rules``: rule files that a plain Prometheus loads, for resource files, with no cluster."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from latentry_operator.api.latentmodel import LatentModel
from latentry_operator.api.load import load_files
from latentry_operator.render.files import as_yaml
from latentry_operator.slo.compile import model_rules
from latentry_operator.slo.documents import rule_document
from latentry_operator.slo.operator_alerts import operator_rules
from latentry_operator.slo.types import Identity, RuleSettings
from latentry_serving.contract.errors import InvalidInput, OperationFailed

OPERATOR_FILE = "latentry-operator.yaml"

Documents = Mapping[str, dict[str, Any]]
"""Rule documents by file name."""


def rule_documents(
    paths: Sequence[Path], settings: RuleSettings, *, namespace: str | None = None, operator: bool = False
) -> Documents:
    """One document for each LatentModel of the files.

    Args:
        namespace: of LatentModels that name none; None for those of one machine, whose series have no such label.
        operator: with the rules about the operator and the GPU pools of a cluster.

    Raises:
        InvalidInput: with every problem of the files, or when there is no LatentModel.
    """
    models = [one for one in load_files(paths) if isinstance(one, LatentModel)]
    if not models:
        raise InvalidInput.one(
            ", ".join(map(str, paths)), path="kind", problem="no LatentModel", remedy="add a file with one"
        )
    documents = {}
    for model in models:
        identity = Identity(model.metadata.namespace or namespace, model.metadata.name)
        groups = model_rules(model, settings, identity.namespace)
        documents[f"{identity.title.replace('/', '-')}.yaml"] = rule_document(groups, settings, identity.labels)
    if operator:
        documents[OPERATOR_FILE] = rule_document(operator_rules(settings), settings, {})
    return documents


def rules_text(documents: Documents) -> str:
    """All documents as one, for Prometheus reads one from a file."""
    return as_yaml([{"groups": [group for document in documents.values() for group in document["groups"]]}])


def write_rules(documents: Documents, folder: Path) -> list[Path]:
    """Writes each document into a file of its own and returns the paths.

    Raises:
        OperationFailed: the folder cannot be written to.
    """
    paths = [folder / name for name in documents]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path, document in zip(paths, documents.values(), strict=True):
            path.write_text(as_yaml([document]), encoding="utf-8")
    except OSError as error:
        remedy = "name a folder that can be written to with -o"
        raise OperationFailed(f"rules cannot be written to {folder}: {error}", remedy=remedy) from error
    return paths
