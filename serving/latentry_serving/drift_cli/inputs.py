"""Inputs of a model from files: npy, npz, csv, parquet; checked against the contract, not against what is normal.

Tables (csv, parquet) hold one sample a row. A model with one input takes all columns but the times, in their order, as
its flattened values; parquet may instead hold one column of lists. A model with several inputs takes the column of each
input's name.
"""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latentry_serving.bundle.reference import ONLY_INPUT, load_reference, load_times, unix_seconds
from latentry_serving.bundle.store import file_digest
from latentry_serving.bundle.tensors import Array, numpy_dtype
from latentry_serving.contract.errors import InvalidInput, OperationFailed, Problem
from latentry_serving.contract.manifest import TensorSpec

FIELD = "--inputs"
TIMES_FIELD = "--timestamps"
_TABLES = {".csv", ".parquet", ".pq"}
_ARRAYS = {".npy", ".npz"}


@dataclass(frozen=True, slots=True)
class Inputs:
    """What a file held: arrays by input name, [n, ...] each; Unix seconds [n] or None; digests of the files read."""

    arrays: Mapping[str, Array]
    times_s: NDArray[np.float64] | None
    digests: Mapping[str, str]

    @property
    def rows(self) -> int:
        return len(next(iter(self.arrays.values())))

    def ordered(self) -> "Inputs":
        """In the order of their times."""
        if self.times_s is None:
            return self
        order = np.argsort(self.times_s, kind="stable")
        return Inputs({name: array[order] for name, array in self.arrays.items()}, self.times_s[order], self.digests)


def read_inputs(path: Path, tensors: Sequence[TensorSpec], timestamps: str | None = None) -> Inputs:
    """Reads a file.

    Args:
        path: of .npy, .npz, .csv or .parquet.
        tensors: the model's inputs.
        timestamps: an .npy file beside it; or a column of the table, an array of the .npz.

    Raises:
        InvalidInput: what is missing, unreadable or does not fit, every problem named. OperationFailed: no pyarrow.
    """
    suffix = path.suffix.lower()
    if suffix not in _TABLES | _ARRAYS:
        raise _refused(FIELD, f"{path} is no kind of file that is read", "give .npy, .npz, .csv or .parquet")
    if not path.is_file():
        raise _refused(FIELD, f"{path} {'is a folder' if path.is_dir() else 'does not exist'}", "correct the path")
    digests = {"inputs": file_digest(path)}
    if suffix in _TABLES:
        columns = _csv(path) if suffix == ".csv" else _parquet(path)
    else:
        columns = load_reference(path, subject="inputs", field=FIELD)
    rows = max((len(array) for array in columns.values() if array.ndim), default=0)
    times = None
    if timestamps is not None and timestamps in columns:
        times = unix_seconds(_times(columns.pop(timestamps)), rows, subject="inputs", field=TIMES_FIELD)
    elif timestamps is not None:
        times = _times_file(timestamps, columns, rows)
        digests["timestamps"] = file_digest(Path(timestamps))
    arrays = _joined(columns, tensors) if suffix in _TABLES else columns
    return Inputs(_fitting(arrays, tensors), times, digests)


def _times_file(timestamps: str, columns: Mapping[str, Array], rows: int) -> NDArray[np.float64]:
    if Path(timestamps).suffix.lower() != ".npy":
        named = ", ".join(name for name in list(columns)[:8] if name) or "none"
        remedy = f"name an .npy file, or one of the file's columns ({named}{', ...' if len(columns) > 8 else ''})"
        raise _refused(TIMES_FIELD, f"{timestamps} is no column of the inputs and no .npy file", remedy)
    return load_times(Path(timestamps), rows, subject="inputs", field=TIMES_FIELD)


def _fitting(arrays: Mapping[str, Array], tensors: Sequence[TensorSpec]) -> dict[str, Array]:
    """The model's inputs in its own types and shapes; a flattened sample is put into shape."""
    if ONLY_INPUT in arrays and len(tensors) == 1:
        arrays = {tensors[0].name: arrays[ONLY_INPUT]}
    wanted = {tensor.name: tensor for tensor in tensors}
    problems = [
        Problem(FIELD, f"has nothing for input {name!r}", f"give arrays or columns named {', '.join(wanted)}")
        for name in wanted
        if name not in arrays
    ]
    problems += [
        Problem(FIELD, f"{name!r} is no input of the model", f"keep only {', '.join(wanted)} (and --timestamps)")
        for name in arrays
        if name not in wanted
    ]
    found = {}
    for name, tensor in wanted.items():
        if name in arrays:
            fitted = _cast(arrays[name], tensor)
            if isinstance(fitted, Problem):
                problems.append(fitted)
            else:
                found[name] = fitted
    if len({len(array) for array in found.values()}) > 1:
        counts = ", ".join(f"{name} {len(array)}" for name, array in found.items())
        problems.append(Problem(FIELD, f"its arrays have different numbers of rows: {counts}", "give one of each"))
    elif found and not problems and not len(next(iter(found.values()))):
        problems.append(Problem(FIELD, "has no rows", "give the inputs to look at"))
    if problems:
        raise InvalidInput("inputs", problems)
    return found


def _cast(array: Array, tensor: TensorSpec) -> Array | Problem:
    dtype = numpy_dtype(tensor.datatype)
    kinds = "fiub" if dtype.kind == "f" else "iub"
    if array.dtype.kind not in kinds:
        problem = f"{tensor.name!r} is of type {array.dtype}, the model takes {dtype}"
        return Problem(FIELD, problem, f"save it .astype('{dtype}')")
    size = prod(tensor.shape)
    if size > 0 and array.ndim and array.shape[1:] != tensor.shape and prod(array.shape[1:]) == size:
        array = array.reshape(len(array), *tensor.shape)
    shape = array.shape[1:]
    fits = len(shape) == len(tensor.shape) and all(b in (-1, a) for a, b in zip(shape, tensor.shape, strict=True))
    if array.ndim == 0 or not fits:
        takes = ", ".join(["rows", *("any" if axis < 0 else str(axis) for axis in tensor.shape)])
        return Problem(FIELD, f"{tensor.name!r} has shape {list(array.shape)}, the model takes [{takes}]", "reshape it")
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(array.astype(dtype))


def _joined(columns: dict[str, Array], tensors: Sequence[TensorSpec]) -> dict[str, Array]:
    """Columns as arrays by input name."""
    if len(tensors) > 1 or tensors[0].name in columns:
        return columns
    words = [name for name, column in columns.items() if column.dtype.kind not in "fiub"]
    if words:
        hint = f"; is {words[0]!r} the time? name it with {TIMES_FIELD}" if len(words) == 1 else ""
        raise _refused(FIELD, f"column {words[0]!r} holds no numbers", f"leave it out{hint}")
    if not columns:
        raise _refused(FIELD, "has no columns of values", "give one column for each value of the input")
    return {tensors[0].name: np.stack(list(columns.values()), axis=1)}


def _csv(path: Path) -> dict[str, Array]:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.reader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise _refused(FIELD, f"{path} cannot be read: {error}", "give a csv file in UTF-8") from error
    if len(rows) < 2:
        raise _refused(FIELD, f"{path} has no rows under its header", "give column names first, then one sample a line")
    names = [name.strip() for name in rows[0]]
    if len(set(names)) < len(names):
        raise _refused(FIELD, f"{path} names a column twice", "give every column a name of its own in the first line")
    uneven = next((number for number, row in enumerate(rows, start=1) if len(row) != len(names)), None)
    if uneven is not None:
        problem = f"{path} has {len(rows[uneven - 1])} values in line {uneven}, its header names {len(names)}"
        raise _refused(FIELD, problem, "complete the line")
    return {name: _numbers([row[i] for row in rows[1:]]) for i, name in enumerate(names)}


def _numbers(texts: list[str]) -> Array:
    """Floats where every text is one (an empty one is NaN), else the texts."""
    try:
        return np.array([float(text) if text.strip() else np.nan for text in texts])
    except ValueError:
        return np.array(texts)


def _parquet(path: Path) -> dict[str, Array]:
    try:
        from pyarrow import ArrowInvalid, parquet
    except ImportError as error:
        raise OperationFailed(
            f"reading {path} needs pyarrow, which this installation lacks",
            remedy="install latentry[parquet], or give .npy, .npz or .csv",
        ) from error
    try:
        table = parquet.read_table(path)
    except (ArrowInvalid, OSError) as error:
        raise _refused(FIELD, f"{path} cannot be read: {error}", "give a whole parquet file") from error
    return {name: _column(name, table.column(name)) for name in table.column_names}


def _column(name: str, column: Any) -> Array:
    values: Array = column.to_numpy()
    if values.dtype != object:
        return values
    try:
        return np.stack([np.asarray(value, np.float64) for value in values])
    except (TypeError, ValueError):
        if all(isinstance(value, str) for value in values):
            return values.astype(str)
        raise _refused(FIELD, f"column {name!r} holds lists of different lengths or gaps", "fill it evenly") from None


def _times(column: Array) -> Array:
    """Texts in ISO 8601 as datetime64 in UTC; anything else as it is."""
    if column.dtype.kind != "U":
        return column
    from datetime import UTC, datetime

    try:
        parsed = [datetime.fromisoformat(text) for text in column.tolist()]
    except ValueError:
        return column
    return np.array([(t if t.tzinfo else t.replace(tzinfo=UTC)).timestamp() for t in parsed])


def _refused(field: str, problem: str, remedy: str) -> InvalidInput:
    return InvalidInput.one("inputs", path=field, problem=problem, remedy=remedy)
