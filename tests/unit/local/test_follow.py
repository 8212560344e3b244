"""What an edited file means for each of its models: followed, refused with the whole reason, or not theirs."""

from collections.abc import Callable
from pathlib import Path

import pytest

from latentry_operator.local import follow
from latentry_operator.local.wanted import Wanted
from latentry_serving.contract.errors import InvalidInput

MODEL = """
apiVersion: latentry.dev/v1alpha1
kind: LatentModel
metadata: {{name: {name}}}
spec: {{family: Encoder, bundle: {{uri: 'file://{bundle}'}}}}
"""


class Follower:
    """Notes what it is told."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.told: list[str] = []

    def follow(self, wanted: Wanted) -> None:
        self.told.append(f"follow {wanted}")

    def refuse(self, reason: str) -> None:
        self.told.append(f"refuse {reason}")


@pytest.fixture
def edited(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Decides what reading the file gives."""

    def give(found: object) -> None:
        def read(_path: Path) -> object:
            if isinstance(found, Exception):
                raise found
            return found

        monkeypatch.setattr(follow, "read_wanted", read)
        monkeypatch.setattr(follow, "Wanted", str)

    return give


def error(problem: str) -> InvalidInput:
    return InvalidInput.one("m.yaml", path="spec", problem=problem, remedy="correct it")


async def test_each_model_gets_what_the_file_asks_of_it(edited: Callable[..., None]) -> None:
    one, two, gone = Follower("one"), Follower("two"), Follower("gone")
    notes: list[str] = []
    edited({"one": "revision", "two": error("no bundle"), "fresh": "revision"})
    await follow.take(Path("m.yaml"), [one, two, gone], notes.append)
    assert one.told == ["follow revision"]
    assert two.told == ["refuse m.yaml: 1 problem\n  - spec: no bundle; correct it"]
    assert "no longer names gone, which goes on" in gone.told[0]
    assert "names fresh too" in notes[0]


async def test_a_file_that_cannot_be_read_is_refused_by_all_its_models(edited: Callable[..., None]) -> None:
    models = [Follower("one"), Follower("two")]
    edited(error("not YAML"))
    await follow.take(Path("m.yaml"), models, lambda _: None)
    assert [len(model.told) for model in models] == [1, 1]
    assert all("not YAML" in model.told[0] for model in models)


def test_a_missing_bundle_is_the_models_matter_and_a_wrong_spec_the_files(tmp_path: Path) -> None:
    from latentry_operator.local.wanted import read_wanted

    path = tmp_path / "m.yaml"
    path.write_text("---".join(MODEL.format(name=name, bundle=tmp_path / "no") for name in ("one", "two")))
    found = read_wanted(path)
    assert {name: isinstance(one, InvalidInput) for name, one in found.items()} == {"one": True, "two": True}
    path.write_text(MODEL.format(name="one", bundle="x").replace("family", "famly"))
    with pytest.raises(InvalidInput, match="famly"):
        read_wanted(path)
