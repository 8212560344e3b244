"""Torch models -> ONNX: modules, torch.export programs and TorchScript. The only module here that needs torch to run.

Modules and programs go through torch's dynamo exporter. TorchScript goes through the older script exporter
(``dynamo=False``): torch 2.13's dynamo exporter refuses a ScriptModule, and its TorchScript converter is private.
"""

import copy
import inspect
import io
import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import onnx
import torch

from latentry_serving.bundle.pt2 import checked_archive
from latentry_serving.bundle.tensors import Array
from latentry_serving.contract.errors import InvalidInput

# What torch raises for a model it cannot load, trace or translate; OnnxExporterError is a RuntimeError.
_TORCH_ERRORS = (
    RuntimeError, ValueError, TypeError, KeyError, AttributeError, IndexError, AssertionError,
    NotImplementedError, OSError,
)  # fmt: skip
_CANNOT_EXPORT = "torch cannot turn it into ONNX"
_DYNAMIC_REMEDY = 'export it with dynamic_shapes=({0: torch.export.Dim("batch")},)'


@dataclass(frozen=True, slots=True)
class TorchModel:
    """A torch model with its ONNX graph, for comparing the two."""

    model: onnx.ModelProto
    call: Callable[..., Any]
    role: str
    subject: str

    def run(self, inputs: Sequence[Array]) -> list[Array]:
        """torch's outputs for numpy inputs, in order; raises InvalidInput when torch fails on them."""
        with _torch_errors(self.role, self.subject, "torch fails on reference inputs"), torch.no_grad():
            result = self.call(*(torch.from_numpy(array.copy()) for array in inputs))
        outputs = result if isinstance(result, tuple | list) else (result,)
        return [output.detach().numpy() for output in outputs]


def from_module(
    module: torch.nn.Module, example: Sequence[Array], *, dynamic: Sequence[Sequence[int]], role: str, subject: str
) -> TorchModel:
    """Exports a module. The module itself is left as it is: a copy goes to the CPU and into evaluation mode.

    Args:
        module: takes as many tensors as ``example`` holds.
        example: inputs of at least two rows, so that the batch dimension is not taken for a constant.
        dynamic: dimensions that may vary, per input; 0 is the batch.
        role: ``encoder`` or ``decoder``, for errors.
        subject: what is being built, for errors.

    Raises:
        InvalidInput: the module cannot be exported; torch's reason is given.
    """
    copied = copy.deepcopy(module).cpu().eval()
    inputs = tuple(torch.from_numpy(array.copy()) for array in example)
    shapes = tuple(dict.fromkeys(dimensions, torch.export.Dim.DYNAMIC) for dimensions in dynamic)
    with _torch_errors(role, subject, _CANNOT_EXPORT):
        program = torch.export.export(copied, inputs, dynamic_shapes=_by_name(copied, shapes))
        return TorchModel(_to_onnx(program), copied, role, subject)


def from_program(data: bytes, *, role: str, subject: str) -> TorchModel:
    """Loads and exports a torch.export program (.pt2), after ``pt2.checked_archive``.

    Raises:
        InvalidInput: the archive is refused, broken, or uses an operator that ONNX does not have.
    """
    archive = checked_archive(data, subject=subject, path=f"artifacts.{role}.path")
    with _torch_errors(role, subject, _CANNOT_EXPORT):
        program = torch.export.load(archive)
        return TorchModel(_to_onnx(program), program.module(), role, subject)


def from_torchscript(data: bytes, example: Sequence[Array], *, role: str, subject: str) -> TorchModel:
    """Loads and exports TorchScript.

    torch reads it in C++ with an unpickler that makes tensors and script objects only; no Python code runs.

    Raises:
        InvalidInput: broken, or it uses an operator that ONNX does not have.
    """
    with _torch_errors(role, subject, _CANNOT_EXPORT):
        module = torch.jit.load(io.BytesIO(data), map_location="cpu").eval()  # type: ignore[no-untyped-call]
        arguments = list(module.forward.graph.inputs())[1:]
        names = [value.debugName().partition(".")[0] for value in arguments]
        target = io.BytesIO()
        torch.onnx.export(
            module,
            tuple(torch.from_numpy(array.copy()) for array in example),
            target,  # type: ignore[arg-type]  # torch writes to files too, its annotation forgets them
            dynamo=False,
            input_names=names,
            dynamic_axes={name: {0: "batch"} for name in names},
        )
        return TorchModel(onnx.load_from_string(target.getvalue()), module, role, subject)


def _by_name(module: torch.nn.Module, shapes: tuple[dict[int, Any], ...]) -> Any:
    """torch wants one entry per parameter of forward: a tuple, or one nested tuple for ``*args``."""
    parameters = list(inspect.signature(module.forward).parameters.values())
    variadic = any(parameter.kind is inspect.Parameter.VAR_POSITIONAL for parameter in parameters)
    return (shapes,) if variadic else shapes


def _to_onnx(program: torch.export.ExportedProgram) -> onnx.ModelProto:
    exported = torch.onnx.export(program, dynamo=True, verbose=False)
    assert exported is not None  # noqa: S101 - the dynamo exporter always returns a program
    return exported.model_proto


@contextmanager
def _torch_errors(role: str, subject: str, problem: str) -> Iterator[None]:
    """Turns torch's errors into ours and keeps its notes about itself off the user's screen."""
    logger = logging.getLogger("torch")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except _TORCH_ERRORS as error:
        raise InvalidInput.one(
            subject,
            path=f"artifacts.{role}",
            problem=f"{problem}: {_reason(error)}",
            remedy=f"use operators that ONNX has and no data-dependent Python; {_DYNAMIC_REMEDY}",
        ) from error
    finally:
        logger.setLevel(level)


def _reason(error: BaseException) -> str:
    """The innermost cause on one line: the outer ones are advice about torch's exporter."""
    while error.__cause__ is not None:
        error = error.__cause__
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 400 else f"{text[:400]}..."
