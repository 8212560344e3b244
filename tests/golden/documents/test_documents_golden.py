"""The admin API's documents on drift and health: their JSON schemas are kept, so that no field is renamed unseen."""

import json
from pathlib import Path

import pytest
from pydantic import BaseModel

from latentry_serving.contract.drift_report import DriftReport, ModelHealth

FILES = Path(__file__).parent / "files"


@pytest.mark.parametrize(("name", "document"), [("drift", DriftReport), ("health-of-model", ModelHealth)])
def test_the_schema_is_as_kept(name: str, document: type[BaseModel]) -> None:
    schema = document.model_json_schema(by_alias=True, mode="serialization")
    path, text = FILES / f"{name}.schema.json", json.dumps(schema, indent=1, sort_keys=True) + "\n"
    if not path.exists():
        path.write_text(text, encoding="utf-8")
        pytest.fail(f"{path.name} was missing and has been written: read it, then run again")
    assert path.read_text(encoding="utf-8") == text, f"{path.name} differs; if that is meant, delete it and run again"
