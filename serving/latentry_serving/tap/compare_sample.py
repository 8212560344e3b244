"""Inputs with the embeddings that a version gave for them: rows to bytes and back. Pure, numpy."""

import hashlib
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from latentry_serving.bundle.recorded import Array, load_golden
from latentry_serving.contract.comparison import (
    BYTES_PER_ELEMENT,
    MOST_ROWS,
    InputSource,
    SampleGroup,
    SampleHead,
    SampleInput,
    group_bytes,
)
from latentry_serving.contract.manifest import BundleManifest, Contract, Datatype, OperationContract, TensorSpec
from latentry_serving.contract.operations import RECONSTRUCTION_ERROR, Operation
from latentry_serving.tap.analysis_decode import Sample

_KEY_BYTES = 16
_SHARE_OF_ONE_CALL = 8
"""One call gives at most this part of all rows that are kept: a batch of neighbours is no sample of the traffic."""
_DTYPES = {
    Datatype.BOOL: "?",
    Datatype.UINT8: "u1",
    Datatype.UINT16: "<u2",
    Datatype.UINT32: "<u4",
    Datatype.UINT64: "<u8",
    Datatype.INT8: "i1",
    Datatype.INT16: "<i2",
    Datatype.INT32: "<i4",
    Datatype.INT64: "<i8",
    Datatype.FP16: "<f2",
    Datatype.FP32: "<f4",
    Datatype.FP64: "<f8",
}


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """Some rows of one shape.

    Attributes:
        inputs: name -> [rows, ...].
        embeddings: float32 [rows, dimensions], of the version that the sample is from.
        errors: float64 [rows], its reconstruction errors, NaN where one is not known; None without any.
    """

    source: InputSource
    inputs: Mapping[str, Array]
    embeddings: Array
    errors: Array | None = None


class RecentRows:
    """The latest encode inputs, one entry for each different one, in bounded memory."""

    def __init__(self, contract: Contract, *, most_rows: int, most_bytes: int) -> None:
        """
        Args:
            most_rows, most_bytes: the oldest go first.
        """
        self._encode = contract.operations[Operation.ENCODE]
        self._most_rows, self._most_bytes = most_rows, most_bytes
        self._kept: OrderedDict[bytes, tuple[dict[str, Array], Array]] = OrderedDict()
        self.bytes = 0
        self.not_finite = 0
        """Rows that were left out because their embedding held NaN or infinity, since the start."""

    def __len__(self) -> int:
        return len(self._kept)

    def add(self, sample: Sample) -> None:
        """Copies what it keeps. A call that is no encode, or names other tensors, leaves nothing."""
        if sample.operation != Operation.ENCODE:
            return
        inputs = _of_contract(sample, self._encode)
        embeddings = next((t.array for t in sample.response if t.name == self._encode.outputs[0].name), None)
        if inputs is None or embeddings is None or embeddings.ndim != 2:
            return
        if not len(embeddings) or any(array.ndim < 1 or len(array) != len(embeddings) for array in inputs.values()):
            return
        for row in range(len(embeddings))[: max(1, self._most_rows // _SHARE_OF_ONE_CALL)]:
            self._keep(
                {name: np.array(array[row]) for name, array in inputs.items()}, embeddings[row].astype(np.float32)
            )

    def groups(self) -> list[Rows]:
        """What is kept, rows of the same shapes together."""
        by_shape: dict[tuple[tuple[int, ...], ...], list[tuple[dict[str, Array], Array]]] = {}
        for inputs, embedding in self._kept.values():
            shapes = (*(array.shape for array in inputs.values()), embedding.shape)
            by_shape.setdefault(shapes, []).append((inputs, embedding))
        return [
            Rows(
                InputSource.LIVE,
                {name: np.stack([inputs[name] for inputs, _ in rows]) for name in rows[0][0]},
                np.stack([embedding for _, embedding in rows]),
            )
            for rows in by_shape.values()
        ]

    def _keep(self, inputs: dict[str, Array], embedding: Array) -> None:
        size = sum(array.nbytes for array in inputs.values()) + embedding.nbytes
        if not np.isfinite(embedding).all():
            self.not_finite += 1
            return
        if size > self._most_bytes:
            return
        key = key_of(inputs)
        self._drop(key)
        self._kept[key] = inputs, embedding
        self.bytes += size
        while len(self._kept) > self._most_rows or self.bytes > self._most_bytes:
            self._drop(next(iter(self._kept)))

    def _drop(self, key: bytes) -> None:
        gone = self._kept.pop(key, None)
        if gone is not None:
            self.bytes -= sum(array.nbytes for array in gone[0].values()) + gone[1].nbytes


def key_of(inputs: Mapping[str, Array]) -> bytes:
    """Tells inputs of one row apart."""
    digest = hashlib.blake2b(digest_size=_KEY_BYTES)
    for name in sorted(inputs):
        digest.update(f"{name}{inputs[name].shape}".encode() + np.ascontiguousarray(inputs[name]).tobytes())
    return digest.digest()


def golden_rows(folder: Path, manifest: BundleManifest, *, most_bytes: int) -> Rows | None:
    """The recorded encode call; as many rows as the bytes allow, None where not even two are.

    Raises:
        OSError, ValueError: it cannot be read, or its inputs are of a datatype that cannot be carried.
    """
    encode = manifest.contract.operations[Operation.ENCODE]
    for tensor in encode.inputs:
        if tensor.datatype not in BYTES_PER_ELEMENT:
            raise ValueError(f"input {tensor.name} is {tensor.datatype}, which cannot be carried")
    inputs = load_golden(folder, Operation.ENCODE, "inputs", encode.inputs)
    output = load_golden(folder, Operation.ENCODE, "outputs", encode.outputs[:1])[encode.outputs[0].name]
    embeddings = output.reshape(len(output), -1).astype(np.float32)
    if embeddings.shape[1] != manifest.contract.latent_dimension:
        raise ValueError(f"{encode.outputs[0].name} has {embeddings.shape[1]} dimensions")
    row_bytes = sum(array[:1].nbytes for array in inputs.values()) + embeddings[:1].nbytes
    rows = min(len(embeddings), MOST_ROWS // 2, most_bytes // max(1, row_bytes))
    if rows < 2:
        return None
    errors = _golden_errors(folder, manifest, inputs)
    return Rows(
        InputSource.GOLDEN,
        {name: array[:rows] for name, array in inputs.items()},
        embeddings[:rows],
        errors[:rows] if errors is not None else None,
    )


def error_output(contract: Contract) -> TensorSpec | None:
    """Where score tells the reconstruction error of what encode takes; None where nothing does, or nobody knows what it
    means."""
    score, encode = contract.operations.get(Operation.SCORE), contract.operations[Operation.ENCODE]
    if score is None or score.inputs != encode.inputs or contract.reconstruction_error is None:
        return None
    return next((tensor for tensor in score.outputs if tensor.name == RECONSTRUCTION_ERROR), None)


def _golden_errors(folder: Path, manifest: BundleManifest, inputs: Mapping[str, Array]) -> Array | None:
    """The recorded reconstruction errors of these inputs, float64 [rows]; None where they were recorded with others."""
    score, output = manifest.contract.operations.get(Operation.SCORE), error_output(manifest.contract)
    if score is None or output is None:
        return None
    given = load_golden(folder, Operation.SCORE, "inputs", score.inputs)
    found = load_golden(folder, Operation.SCORE, "outputs", (output,))[output.name].reshape(-1).astype(np.float64)
    rows = len(next(iter(inputs.values())))
    alike = all(np.array_equal(given[name], array) for name, array in inputs.items())
    return found if alike and len(found) == rows else None


def described(rows: Rows, encode: OperationContract) -> SampleGroup:
    """How a sample's head speaks of some rows."""
    return SampleGroup(
        source=rows.source,
        rows=len(rows.embeddings),
        inputs=tuple(
            SampleInput(name=t.name, datatype=t.datatype, shape=rows.inputs[t.name].shape[1:]) for t in encode.inputs
        ),
        reconstruction_errors=()
        if rows.errors is None
        else tuple(float(error) if np.isfinite(error) else None for error in rows.errors),
    )


def payload(rows: Rows, encode: OperationContract) -> Iterator[bytes]:
    """The bytes of some rows, in the head's order."""
    for tensor in encode.inputs:
        yield np.ascontiguousarray(rows.inputs[tensor.name], _DTYPES[tensor.datatype]).tobytes()
    yield np.ascontiguousarray(rows.embeddings, "<f4").tobytes()


def unpacked(head: SampleHead, data: memoryview) -> list[Rows]:
    """The rows of a sample that ``split_sample`` has checked; arrays are views of its bytes."""
    found, at = [], 0
    for group in head.groups:
        part = data[at : at + group_bytes(group, head.dimensions)]
        at += len(part)
        inputs, start = {}, 0
        for tensor in group.inputs:
            dtype = np.dtype(_DTYPES[tensor.datatype])
            count = group.rows * int(np.prod(tensor.shape, dtype=np.int64))
            array = np.frombuffer(part, dtype, count, start)
            inputs[tensor.name] = array.reshape(group.rows, *tensor.shape)
            start += array.nbytes
        embeddings = np.frombuffer(part, "<f4", offset=start).reshape(group.rows, head.dimensions)
        told = group.reconstruction_errors
        errors = np.array([np.nan if error is None else error for error in told]) if told else None
        found.append(Rows(group.source, inputs, embeddings, errors))
    return found


def different(groups: Iterable[Rows]) -> list[Rows]:
    """Each input once, the first one: duplicates would count as evidence that they are not."""
    seen: set[bytes] = set()
    found = []
    for rows in groups:
        chosen = []
        for row in range(len(rows.embeddings)):
            key = key_of({name: array[row] for name, array in rows.inputs.items()})
            if key not in seen:
                seen.add(key)
                chosen.append(row)
        if chosen:
            inputs = {name: array[chosen] for name, array in rows.inputs.items()}
            errors = rows.errors[chosen] if rows.errors is not None else None
            found.append(Rows(rows.source, inputs, rows.embeddings[chosen], errors))
    return found


def finite(embeddings: Array) -> Array:
    """Which rows of [rows, dimensions] hold neither NaN nor infinity, bool [rows]."""
    rows: Array = np.asarray(np.isfinite(embeddings).all(axis=1))
    return rows


def misfit(head: SampleHead, encode: OperationContract) -> str:
    """Why the sample's inputs are none that this contract takes; empty where they are."""
    wanted = {tensor.name: tensor for tensor in encode.inputs}
    for group in head.groups:
        given = {tensor.name: tensor for tensor in group.inputs}
        if given.keys() != wanted.keys():
            return f"the stable revision's encode takes {_names(given)}, this one takes {_names(wanted)}"
        for name, tensor in given.items():
            spec = wanted[name]
            fits = len(spec.shape) == len(tensor.shape) and all(
                size in (-1, got) for size, got in zip(spec.shape, tensor.shape, strict=True)
            )
            if tensor.datatype is not spec.datatype or not fits:
                return (
                    f"the stable revision's input {name} is {tensor.datatype} {list(tensor.shape)}, this one takes"
                    f" {spec.datatype} {list(spec.shape)}"
                )
    return ""


def _names(tensors: Mapping[str, object]) -> str:
    return ", ".join(sorted(tensors)) or "nothing"


def _of_contract(sample: Sample, encode: OperationContract) -> dict[str, Array] | None:
    given = {tensor.name: tensor for tensor in sample.request}
    if given.keys() != {tensor.name for tensor in encode.inputs}:
        return None
    if any(given[t.name].datatype is not t.datatype or t.datatype not in BYTES_PER_ELEMENT for t in encode.inputs):
        return None
    return {tensor.name: given[tensor.name].array for tensor in encode.inputs}
