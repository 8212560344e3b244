"""Makes a torch.export archive (.pt2) safe to load, or refuses it.

``torch.export.load`` (torch 2.13) unpickles whatever an archive marks as pickled (tensor subclasses, custom objects,
sample inputs it cannot load with ``weights_only=True``), evaluates shape expressions through ``sympy.sympify``, which
is ``eval``, and looks operators up by walking attributes from ``torch``. So the archive is read here first: only what
a plain program needs is kept, each part checked, and a fresh archive of the checked bytes is handed to torch.
"""

import ast
import builtins
import io
import json
import re
import warnings
import zipfile
from collections.abc import Iterator
from typing import Any

from latentry_serving.contract.errors import InvalidInput

_PROGRAM = "models/model.json"
_SAMPLE_INPUTS = "data/sample_inputs/model.pt"
_PAYLOADS = ("data/weights/model_weights_config.json", "data/constants/model_constants_config.json")
_PLAIN = (_PROGRAM, *_PAYLOADS, "archive_format", "archive_version", "byteorder", ".data/version")
_TENSOR_FILE = re.compile(r"data/(weights/weight_\d+|constants/tensor_\d+)")
_TARGET = re.compile(
    r"torch\.ops\.(aten|prims|prim|quantized_decomposed|torchvision|onnx)\.\w+(\.\w+)?"
    r"|torch\.ops\.higher_order\.(cond|while_loop|scan|map_impl|wrap_with_set_grad_enabled|wrap_with_autocast)"
    r"|_operator\.(getitem|add|sub|mul|floordiv|truediv|mod|pow|neg|pos|eq|ne|lt|le|gt|ge|and_|or_|not_)"
    r"|torch\.(_sym_sqrt|sym_(int|float|max|min|not|sum|ite|sqrt))"
    r"|math\.(ceil|floor|trunc|sqrt)"
)
_TREE_TYPES = {"builtins.tuple", "builtins.list", "builtins.dict", "collections.OrderedDict", None}
_EXPRESSION_NODES = (
    ast.Expression, ast.Call, ast.Name, ast.Load, ast.Constant, ast.keyword, ast.UnaryOp, ast.USub, ast.UAdd, ast.Not,
    ast.BinOp, ast.Add, ast.Sub, ast.Mult, ast.Div, ast.FloorDiv, ast.Mod, ast.Pow, ast.Compare, ast.Eq, ast.NotEq,
    ast.Lt, ast.LtE, ast.Gt, ast.GtE,
)  # fmt: skip
_SYMBOL = re.compile(r"[A-Za-z]{1,8}\d*")


def checked_archive(data: bytes, *, subject: str, path: str) -> io.BytesIO:
    """The archive's program, weights and constants as a fresh archive that holds nothing else.

    Args:
        data: the .pt2 file's bytes.
        subject: the spec or call that names the file.
        path: the field that names it, for errors.

    Raises:
        InvalidInput: not a torch.export archive, written by an old torch, or anything in it would run code.
    """

    def refuse(problem: str, remedy: str) -> InvalidInput:
        return InvalidInput.one(subject, path=path, problem=problem, remedy=remedy)

    records = _records(data, refuse)
    if any(name.startswith("data/aotinductor/") for name in records):
        raise refuse("holds compiled machine code (AOTInductor)", "give the program saved by torch.export.save")
    if _PROGRAM not in records:
        raise refuse(
            "is no torch.export archive of one program",
            "save it with torch.export.save of torch 2.8 or newer",
        )
    kept = {name: records[name] for name in _PLAIN if name in records}
    problems = [*_payload_problems(kept), *_program_problems(kept[_PROGRAM])]
    if problems:
        raise refuse(
            f"would run code when loaded: {'; '.join(problems[:3])}",
            "export a program of plain tensors and ATen operators, or give ONNX",
        )
    kept |= {name: content for name, content in records.items() if _TENSOR_FILE.fullmatch(name)}
    if _SAMPLE_INPUTS in records:
        if not _loads_as_plain_tensors(records[_SAMPLE_INPUTS]):
            raise refuse(
                "its sample inputs are a pickle of arbitrary objects, which is never loaded",
                "export with plain tensors as example inputs, or give ONNX",
            )
        kept[_SAMPLE_INPUTS] = records[_SAMPLE_INPUTS]
    fresh = io.BytesIO()
    with zipfile.ZipFile(fresh, "w", zipfile.ZIP_STORED) as archive:
        for name, content in kept.items():
            archive.writestr(f"model/{name}", _without_guards(content) if name == _PROGRAM else content)
    fresh.seek(0)
    return fresh


def _records(data: bytes, refuse: Any) -> dict[str, bytes]:
    """The archive's files by their name below its one top folder."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            # Reading checks each file's CRC.
            return {info.filename.partition("/")[2]: archive.read(info) for info in archive.infolist()}
    except (zipfile.BadZipFile, EOFError, OSError, NotImplementedError, RuntimeError) as error:
        raise refuse(
            f"is no readable .pt2 archive ({error})", "check that the file is whole; save it with torch.export.save"
        ) from error


def _payload_problems(records: dict[str, bytes]) -> Iterator[str]:
    for config in _PAYLOADS:
        try:
            payloads = json.loads(records.get(config, b'{"config": {}}'))["config"]
        except (ValueError, KeyError, TypeError):
            yield f"{config} cannot be read"
            continue
        for name, payload in payloads.items():
            folder = config.rpartition("/")[0]
            if payload.get("use_pickle") or not _TENSOR_FILE.fullmatch(f"{folder}/{payload.get('path_name')}"):
                yield f"{name} is stored as a pickle"


def _program_problems(data: bytes) -> Iterator[str]:
    try:
        program = json.loads(data)
    except ValueError:
        yield f"{_PROGRAM} cannot be read"
        return
    for key, value in _items(program):
        if key in {"target", "as_operator"} and isinstance(value, str) and not _TARGET.fullmatch(value):
            # Graph signatures use "target" for parameter names; only dotted paths from a module resolve to code.
            if value.split(".")[0] in {"torch", "_operator", "math"} or value.startswith("#"):
                yield f"operator {value!r}"
        elif key == "expr_str" and not _harmless_expression(value):
            yield f"shape expression {value!r}"
        elif key in {"in_spec", "out_spec"} and not _harmless_tree(value):
            yield f"{key} {value!r}"


def _items(node: Any) -> Iterator[tuple[str, Any]]:
    """Every key and value in a JSON document."""
    if isinstance(node, dict):
        for key, value in node.items():
            yield key, value
            yield from _items(value)
    elif isinstance(node, list):
        for value in node:
            yield from _items(value)


def _harmless_expression(text: Any) -> bool:
    """True for sympy's printed form of arithmetic over symbols: constructor calls, numbers and operators only."""
    try:
        tree = ast.parse(text, mode="eval")
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError):
        return False
    if not all(isinstance(node, _EXPRESSION_NODES) for node in ast.walk(tree)):
        return False
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    names = {node.func.id for node in calls if isinstance(node.func, ast.Name)}
    symbol_texts = {id(call.args[0]) for call in calls if _is_symbol(call)}
    texts = [node for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    return (
        all(isinstance(call.func, ast.Name) for call in calls)
        and not any(hasattr(builtins, name) or not name[0].isupper() for name in names)
        and all(id(node) in symbol_texts for node in texts)
    )


def _is_symbol(call: ast.Call) -> bool:
    """``Symbol('s0', ...)`` or ``Float('1.5', ...)``."""
    if not (isinstance(call.func, ast.Name) and call.args and isinstance(call.args[0], ast.Constant)):
        return False
    text = str(call.args[0].value)
    pattern = {"Symbol": _SYMBOL, "Float": re.compile(r"-?\d+(\.\d*)?(e[-+]?\d+)?")}.get(call.func.id)
    return pattern is not None and pattern.fullmatch(text) is not None


def _harmless_tree(text: Any) -> bool:
    """True for a pytree of tuples, lists and dictionaries; other node types import modules by name."""
    if not text:
        return True
    try:
        spec = json.loads(text)
    except (ValueError, TypeError):
        return False
    return all(value in _TREE_TYPES for key, value in _items(spec) if key == "type" and not isinstance(value, dict))


def _loads_as_plain_tensors(data: bytes) -> bool:
    import torch  # only a .pt2 needs it

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.load(io.BytesIO(data), weights_only=True)
    except Exception:  # noqa: BLE001 - a hostile pickle may raise anything; all of it means "refuse"
        return False
    return True


def _without_guards(program: bytes) -> bytes:
    """Guards are Python source that torch compiles; input shapes are checked against the contract instead."""
    document = json.loads(program)
    document["guards_code"] = []
    return json.dumps(document).encode()
