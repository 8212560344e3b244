"""manifests/crds is what the types generate; `make generate` brings it up to date."""

from pathlib import Path

from latentry_operator.api.crd import crd_files

FOLDER = Path(__file__).parents[3] / "manifests" / "crds"


def test_crds_are_generated_from_the_types() -> None:
    written = {path.name: path.read_text(encoding="utf-8") for path in FOLDER.glob("*.yaml")}
    assert written == dict(crd_files()), "run `make generate` and commit manifests/crds"
