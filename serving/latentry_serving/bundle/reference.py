"""Reference data: real inputs, read without unpickling and checked against the model's inputs."""

import pickle
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from latentry_serving.bundle.recorded import spread_rows
from latentry_serving.bundle.tensors import FLOATING, Array, numpy_dtype
from latentry_serving.contract.errors import InvalidInput, Problem
from latentry_serving.contract.manifest import ReconstructionError, TensorSpec

_FIELD = "reference.path"
"""Where the user named the file, unless told otherwise."""
_PICKLE = b"\x80"
ONLY_INPUT = ""
"""Key of an ``.npy`` file's array until the graph has told the input's name."""


def load_reference(path: Path, *, subject: str, field: str = _FIELD) -> dict[str, Array]:
    """Reads ``.npy`` (one input) or ``.npz`` (one array per input name); ``field`` is where the user named the file.

    Raises:
        InvalidInput: missing, cut short, no numpy file, or one that holds Python objects.
    """

    def refuse(problem: str, remedy: str) -> InvalidInput:
        return InvalidInput.one(subject, path=field, problem=problem, remedy=remedy)

    try:
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return {ONLY_INPUT: loaded}
        with loaded:
            return {name: loaded[name] for name in loaded.files}
    except FileNotFoundError as error:
        raise refuse(f"{path} does not exist", "correct the path or save inputs there with numpy.save") from error
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, pickle.UnpicklingError) as error:
        objects = "Object arrays" in str(error) or path.read_bytes()[:1] == _PICKLE
        problem = "holds pickled Python objects" if objects else f"is cut short or no numpy file ({error})"
        raise refuse(f"{path} {problem}", "save a plain numeric array with numpy.save") from error


def match_inputs(
    arrays: Mapping[str, Array],
    inputs: Sequence[TensorSpec],
    *,
    samples: int,
    reduction: ReconstructionError | None,
    subject: str,
    field: str = _FIELD,
) -> dict[str, Array]:
    """The arrays by input name, after checking them.

    Raises:
        InvalidInput: an array missing or left over; wrong shape, dtype or range; values that are not finite; fewer
            rows than golden samples, or arrays of different length. All problems are reported.
    """
    if ONLY_INPUT in arrays and len(inputs) == 1:
        arrays = {inputs[0].name: arrays[ONLY_INPUT]}
    wanted = {tensor.name for tensor in inputs}
    problems = [
        Problem(field, f"has no array for input {name!r}", f"save an .npz with {', '.join(sorted(wanted))}")
        for name in sorted(wanted - arrays.keys())
    ]
    problems += [
        Problem(field, f"array {name!r} belongs to no input", f"keep only {', '.join(sorted(wanted))}")
        for name in sorted(arrays.keys() - wanted)
    ]
    for tensor in inputs:
        if tensor.name in arrays:
            problems += _array_problems(arrays[tensor.name], tensor, reduction, field)
    rows = {len(array) if array.ndim else 0 for array in arrays.values()}
    if len(rows) > 1:
        problems.append(Problem(field, f"its arrays have {sorted(rows)} rows", "save the same number of rows in each"))
    if min(rows, default=0) < samples:
        problems.append(
            Problem(
                field,
                f"has {min(rows, default=0)} rows, golden.samples asks for {samples}",
                "give more rows or lower golden.samples",
            )
        )
    if problems:
        raise InvalidInput(subject, problems)
    return {tensor.name: arrays[tensor.name] for tensor in inputs}


def _array_problems(
    array: Array, tensor: TensorSpec, reduction: ReconstructionError | None, field: str
) -> Iterator[Problem]:
    name = f"array for {tensor.name!r}"
    dtype = numpy_dtype(tensor.datatype)
    if array.dtype != dtype:
        yield Problem(field, f"{name} has dtype {array.dtype}, the model takes {dtype}", f"save it .astype('{dtype}')")
    shape = array.shape[1:]
    fits = len(shape) == len(tensor.shape) and all(b in (-1, a) for a, b in zip(shape, tensor.shape, strict=True))
    if array.ndim == 0 or not fits:
        wanted = ", ".join(["rows", *("any" if size < 0 else str(size) for size in tensor.shape)])
        yield Problem(field, f"{name} has shape {list(array.shape)}, the model takes [{wanted}]", "reshape it")
    if array.dtype.kind not in "fiub":
        return
    if tensor.datatype in FLOATING and (bad := int((~np.isfinite(array)).sum())):
        yield Problem(field, f"{name} holds {bad} NaN or infinite values", "clean the data, rows with gaps out")
        return
    if array.size == 0:
        return
    low, high = float(array.min()), float(array.max())
    if tensor.range is not None and not tensor.range[0] <= low <= high <= tensor.range[1]:
        yield Problem(
            field,
            f"{name} spans [{low:g}, {high:g}], inputs declares [{tensor.range[0]:g}, {tensor.range[1]:g}]",
            "correct the data's scale or the declared range",
        )
    if reduction is ReconstructionError.BINARY_CROSS_ENTROPY and not 0 <= low <= high <= 1:
        yield Problem(
            field,
            f"{name} spans [{low:g}, {high:g}], BinaryCrossEntropy needs [0, 1]",
            "scale the data to [0, 1], or write reconstructionError: MeanSquared",
        )


def load_times(path: Path, rows: int, *, subject: str, field: str) -> NDArray[np.float64]:
    """Unix seconds [rows] from an ``.npy`` of numbers or datetime64 (UTC).

    Raises:
        InvalidInput: no such file, another number of times, values that are no times.
    """
    arrays = load_reference(path, subject=subject, field=field)
    if ONLY_INPUT not in arrays:
        remedy = "save one array with numpy.save"
        raise InvalidInput.one(subject, path=field, problem=f"{path} is an .npz", remedy=remedy)
    return unix_seconds(arrays[ONLY_INPUT], rows, subject=subject, field=field)


def unix_seconds(times: Array, rows: int, *, subject: str, field: str) -> NDArray[np.float64]:
    """Times [rows] as Unix seconds. Raises InvalidInput as ``load_times`` does."""
    seconds = times
    if times.dtype.kind == "M":
        seconds = np.where(np.isnat(times), np.nan, times.astype("datetime64[ns]").astype(np.int64) / 1e9)
    if times.dtype.kind not in "fiuM" or times.shape != (rows,) or not np.isfinite(seconds).all():
        bad = 0 if times.dtype.kind not in "fiuM" else int((~np.isfinite(seconds)).sum())
        raise InvalidInput.one(
            subject,
            path=field,
            problem=f"times of shape {list(times.shape)} and type {times.dtype}" + (f", {bad} missing" if bad else ""),
            remedy=f"give one time for each of the {rows} inputs, Unix seconds or datetime64",
        )
    return np.asarray(seconds, np.float64)


def spread(arrays: Mapping[str, Array], samples: int) -> dict[str, Array]:
    """``samples`` rows, or all where there are fewer, evenly spaced from the first to the last."""
    picked = spread_rows(len(next(iter(arrays.values()))), samples)
    return {name: np.ascontiguousarray(array[picked]) for name, array in arrays.items()}
