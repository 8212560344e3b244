"""Pickles offered as artifacts are refused and never loaded: each would leave a file if it were."""

import io
import json
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from latentry_serving.bundle.build import build_bundle
from latentry_serving.bundle.spec import BundleSpec
from latentry_serving.contract.errors import InvalidInput


class Payload:
    """Runs ``mkdir`` when unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.marker),)


@pytest.fixture
def marker(tmp_path: Path) -> Path:
    return tmp_path / "the-payload-ran"


def test_the_payload_works(marker: Path) -> None:
    pickle.loads(pickle.dumps(Payload(marker)))
    assert marker.exists()


Refuse = Callable[..., str]


@pytest.fixture
def refuse(folder: Path, make_spec: Callable[..., BundleSpec], marker: Path) -> Refuse:
    def build(name: str, *, format: str | None = None, reference: str = "reference.npy") -> str:
        encoder = {"path": name} | ({"format": format} if format else {})
        spec = make_spec("Encoder", artifacts={"encoder": encoder}, reference={"path": reference})
        with pytest.raises(InvalidInput) as caught:
            build_bundle(spec, base_dir=folder, out_dir=folder.parent / "out")
        assert not marker.exists(), "the pickle was loaded"
        assert not (folder.parent / "out").exists()
        return str(caught.value)

    return build


@pytest.mark.parametrize("name", ["m.onnx", "m.pt", "m.pt2", "m.pth"])
@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_a_plain_pickle_under_any_name(folder: Path, refuse: Refuse, marker: Path, name: str, protocol: int) -> None:
    (folder / name).write_bytes(pickle.dumps(Payload(marker), protocol=protocol))
    said = refuse(name)
    assert "is a pickle" in said
    assert "torch.export.save" in said


def test_a_text_pickle_is_no_model_either(folder: Path, refuse: Refuse, marker: Path) -> None:
    (folder / "m.pt").write_bytes(pickle.dumps(Payload(marker), protocol=0))
    refuse("m.pt")


def test_a_pickle_suffix_with_a_format(folder: Path, refuse: Refuse, marker: Path) -> None:
    (folder / "m.pkl").write_bytes(pickle.dumps(Payload(marker)))
    for kind in ("onnx", "pt2", "torchscript"):
        assert "is a pickle" in refuse("m.pkl", format=kind)


@pytest.mark.parametrize("zipped", [True, False])
def test_torch_save_of_a_module_or_payload(folder: Path, refuse: Refuse, marker: Path, zipped: bool) -> None:
    for content in (torch.nn.Linear(2, 2), Payload(marker)):
        torch.save(content, folder / "m.pt", _use_new_zipfile_serialization=zipped)
        assert "is a pickle" in refuse("m.pt")


def test_a_format_that_is_not_the_content(folder: Path, refuse: Refuse) -> None:
    assert "write format: pt2" in refuse("mlp.pt2", format="torchscript")
    assert "write format: torchscript" in refuse("mlp.pt", format="pt2")
    assert "write format: pt2" in refuse("mlp.pt2", format="onnx")


def rewrite(source: Path, target: Path, change: Callable[[dict[str, bytes]], None]) -> None:
    """Copies an archive with its files changed; names are without the top folder."""
    with zipfile.ZipFile(source) as archive:
        files = {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}
    change(files)
    with zipfile.ZipFile(target, "w") as archive:
        for name, content in files.items():
            archive.writestr(f"{target.stem}/{name}", content)


def edit_json(files: dict[str, bytes], name: str, change: Callable[[Any], None]) -> None:
    document = json.loads(files[name])
    change(document)
    files[name] = json.dumps(document).encode()


def torch_pickle(content: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def sample_inputs(files: dict[str, bytes], marker: Path) -> None:
    files["data/sample_inputs/model.pt"] = torch_pickle(((Payload(marker),), {}))


def pickled_weight(files: dict[str, bytes], marker: Path) -> None:
    files["data/weights/weight_0"] = torch_pickle(Payload(marker))

    def change(config: Any) -> None:
        next(iter(config["config"].values()))["use_pickle"] = True

    edit_json(files, "data/weights/model_weights_config.json", change)


def opaque_constant(files: dict[str, bytes], marker: Path) -> None:
    files["data/constants/opaque_obj_0"] = pickle.dumps(Payload(marker))

    def change(config: Any) -> None:
        config["config"]["c"] = {
            "path_name": "opaque_obj_0",
            "is_param": False,
            "use_pickle": True,
            "tensor_meta": None,
        }

    edit_json(files, "data/constants/model_constants_config.json", change)


def legacy_weights(files: dict[str, bytes], marker: Path) -> None:
    """The old layout, in which torch reads weights through its pickle first: the file is dropped, so weights lack."""
    files["data/weights/model.pt"] = torch_pickle({"w": Payload(marker)})


def shape_expression(files: dict[str, bytes], marker: Path) -> None:
    code = f"__import__('os').mkdir({str(marker)!r})"
    text = files["models/model.json"].decode()
    start = text.index('"expr_str": "') + len('"expr_str": "')
    files["models/model.json"] = (text[:start] + code + text[text.index('"', start) :]).encode()


def operator_outside_torch_ops(files: dict[str, bytes], marker: Path) -> None:
    def change(program: Any) -> None:
        program["graph_module"]["graph"]["nodes"][0]["target"] = "torch.os.mkdir"

    edit_json(files, "models/model.json", change)


def tree_type(files: dict[str, bytes], marker: Path) -> None:
    def change(program: Any) -> None:
        signature = program["graph_module"]["module_call_graph"][0]["signature"]
        signature["in_spec"] = signature["in_spec"].replace("builtins.dict", "collections.defaultdict")

    edit_json(files, "models/model.json", change)


def compiled_code(files: dict[str, bytes], marker: Path) -> None:
    files["data/aotinductor/model/model.so"] = b"\x7fELF"


ATTACKS = [
    sample_inputs,
    pickled_weight,
    opaque_constant,
    shape_expression,
    operator_outside_torch_ops,
    tree_type,
    compiled_code,
]


@pytest.mark.parametrize("attack", ATTACKS)
def test_code_inside_a_program_archive(
    folder: Path, refuse: Refuse, marker: Path, attack: Callable[[dict[str, bytes], Path], None]
) -> None:
    rewrite(folder / "mlp.pt2", folder / "evil.pt2", lambda files: attack(files, marker))
    said = refuse("evil.pt2")
    assert any(words in said for words in ("would run code", "never loaded", "machine code")), said


@pytest.mark.parametrize("attack", [sample_inputs, pickled_weight, opaque_constant, shape_expression])
def test_torch_itself_would_have_run_it(
    folder: Path, marker: Path, attack: Callable[[dict[str, bytes], Path], None]
) -> None:
    """Keeps the guard honest: when torch becomes safe here, this fails and the guard can go."""
    rewrite(folder / "mlp.pt2", folder / "evil.pt2", lambda files: attack(files, marker))
    with pytest.raises(Exception):  # noqa: B017 - torch fails somewhere after running the payload
        torch.export.load(folder / "evil.pt2")
        raise RuntimeError("loaded")
    assert marker.exists()


def test_guards_and_extra_files_are_not_handed_to_torch(
    folder: Path, make_spec: Callable[..., BundleSpec], marker: Path
) -> None:
    def attack(files: dict[str, bytes]) -> None:
        files["extra/note"] = b"hello"
        legacy_weights(files, marker)
        edit_json(
            files,
            "models/model.json",
            lambda program: program.update(guards_code=[f"__import__('os').mkdir({str(marker)!r})"]),
        )

    rewrite(folder / "mlp.pt2", folder / "guarded.pt2", attack)
    spec = make_spec("Encoder", artifacts={"encoder": {"path": "guarded.pt2"}})
    build_bundle(spec, base_dir=folder, out_dir=folder.parent / "out")
    assert not marker.exists()


def test_a_program_of_an_older_torch_is_named(folder: Path, refuse: Refuse) -> None:
    with zipfile.ZipFile(folder / "old.pt2", "w") as archive:
        archive.writestr("version", "8.1")
        archive.writestr("serialized_exported_program.json", "{}")
        archive.writestr("serialized_state_dict.pt", b"")
    assert "torch 2.8 or newer" in refuse("old.pt2")


def test_torchscript_with_a_payload_in_its_pickle(folder: Path, refuse: Refuse, marker: Path) -> None:
    """TorchScript keeps data.pkl, which torch reads in C++ without Python's globals."""
    rewrite(
        folder / "mlp.pt",
        folder / "evil.pt",
        lambda files: files.update({"data.pkl": pickle.dumps(Payload(marker), protocol=2)}),
    )
    assert "torch cannot turn it into ONNX" in refuse("evil.pt")


def test_reference_data_as_pickle(folder: Path, refuse: Refuse, marker: Path) -> None:
    (folder / "r.npy").write_bytes(pickle.dumps(Payload(marker)))
    assert "pickled Python objects" in refuse("mlp.onnx", reference="r.npy")
    np.save(folder / "r.npy", np.array([Payload(marker)], dtype=object), allow_pickle=True)
    assert "pickled Python objects" in refuse("mlp.onnx", reference="r.npy")
    np.savez(folder / "r.npz", image=np.array([Payload(marker)], dtype=object))
    assert "pickled Python objects" in refuse("mlp.onnx", reference="r.npz")
