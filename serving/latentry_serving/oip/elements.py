"""Elements of a tensor as they travel, turned into arrays: little-endian bytes, JSON values, typed contents."""

import itertools
import math
import struct
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latentry_serving.contract.manifest import Datatype
from latentry_serving.oip.message import DecodedTensor, FailureReason, Undecodable

_DTYPES: dict[Datatype, np.dtype[Any]] = {
    Datatype.BOOL: np.dtype(np.bool_),
    Datatype.UINT8: np.dtype("<u1"),
    Datatype.UINT16: np.dtype("<u2"),
    Datatype.UINT32: np.dtype("<u4"),
    Datatype.UINT64: np.dtype("<u8"),
    Datatype.INT8: np.dtype("<i1"),
    Datatype.INT16: np.dtype("<i2"),
    Datatype.INT32: np.dtype("<i4"),
    Datatype.INT64: np.dtype("<i8"),
    Datatype.FP16: np.dtype("<f2"),
    Datatype.FP32: np.dtype("<f4"),
    Datatype.FP64: np.dtype("<f8"),
}
_BY_NAME = {datatype.value: datatype for datatype in Datatype}
_RAW_ONLY = frozenset({Datatype.FP16, Datatype.BF16})
_BF16_BITS = np.dtype("<u2")
_MAX_RANK = 32  # numpy 1.x; numpy 2 has 64
_MAX_ADDRESSABLE_BYTES = 2**63 - 1
_LENGTH = struct.Struct("<I")


class TensorHead:
    """What a message says about a tensor beside its data, checked.

    Raises:
        Undecodable: an unknown datatype, or a shape that is none.
    """

    __slots__ = ("count", "datatype", "name", "shape")

    def __init__(self, name: object, datatype: object, shape: Sequence[object]) -> None:
        if not isinstance(name, str):
            raise Undecodable(FailureReason.MALFORMED, "a tensor's name is no text")
        known = _BY_NAME.get(datatype) if isinstance(datatype, str) else None
        if known is None:
            raise Undecodable(FailureReason.UNSUPPORTED_DATATYPE, f"tensor {name!r}: datatype {datatype!r}")
        self.name = name
        self.datatype = known
        self.shape = self._checked(shape)
        self.count = math.prod(self.shape)

    def _checked(self, shape: Sequence[object]) -> tuple[int, ...]:
        if len(shape) > _MAX_RANK:
            raise self.mismatch(f"{len(shape)} dimensions, more than {_MAX_RANK}")
        dimensions, addressed = [], 1
        for size in shape:
            if type(size) is not int or size < 0:
                raise self.mismatch("a dimension is no whole number from 0 up")
            dimensions.append(size)
            addressed *= size or 1  # numpy refuses what it could not address even when another dimension is 0
        if addressed * 8 > _MAX_ADDRESSABLE_BYTES:
            raise self.mismatch("too large for any memory")
        return tuple(dimensions)

    def mismatch(self, problem: str) -> Undecodable:
        return Undecodable(FailureReason.SHAPE_MISMATCH, f"tensor {self.name!r}: {problem}")

    def bad_value(self, problem: object) -> Undecodable:
        return Undecodable(FailureReason.BAD_VALUE, f"tensor {self.name!r}: {problem} for {self.datatype}")

    def tensor(self, flat: NDArray[Any]) -> DecodedTensor:
        """The tensor with these elements in row-major order."""
        if flat.size != self.count:
            raise self.mismatch(f"{flat.size} elements for shape {list(self.shape)}")
        array = flat.reshape(self.shape)
        array.flags.writeable = False
        return DecodedTensor(self.name, self.datatype, self.shape, array)


def from_raw(head: TensorHead, data: bytes | memoryview) -> DecodedTensor:
    """A tensor from its little-endian bytes, without a copy where numpy knows the type.

    BF16 is the upper half of a float32, so a shift makes it one. A BOOL is one byte, true unless zero. BYTES are
    elements of a 4-byte length and that many bytes each.

    Raises:
        Undecodable: not exactly as many bytes as the shape needs.
    """
    if head.datatype is Datatype.BYTES:
        return head.tensor(_objects(_split(head, data)))
    wire = _BF16_BITS if head.datatype is Datatype.BF16 else _DTYPES[head.datatype]
    if len(data) != head.count * wire.itemsize:
        raise head.mismatch(f"{len(data)} bytes for shape {list(head.shape)} of {head.datatype}")
    if head.datatype is Datatype.BOOL:
        return head.tensor(_booleans(np.frombuffer(data, np.uint8)))
    elements: NDArray[Any] = np.frombuffer(data, wire)
    if head.datatype is Datatype.BF16:
        elements = (elements.astype("<u4") << 16).view("<f4")
    return head.tensor(elements)


def _booleans(octets: NDArray[np.uint8]) -> NDArray[np.bool_]:
    canonical = octets.max(initial=0) <= 1  # any other byte in a numpy bool is undefined behaviour
    return octets.view(np.bool_) if canonical else octets != 0


def _split(head: TensorHead, data: bytes | memoryview) -> list[bytes]:
    if 4 * head.count > len(data):
        raise head.mismatch(f"{len(data)} bytes for {head.count} BYTES elements")
    octets, elements, start, end = bytes(data), list[bytes](), 0, len(data)
    while start < end:
        stop = start + 4 + _LENGTH.unpack_from(octets, start)[0] if start + 4 <= end else end + 1
        if stop > end:
            raise head.mismatch("the last BYTES element is cut short")
        elements.append(octets[start + 4 : stop])
        start = stop
    return elements


def _objects(elements: Sequence[bytes]) -> NDArray[np.object_]:
    array = np.empty(len(elements), dtype=np.object_)
    array[:] = elements
    return array


def from_json(head: TensorHead, data: object) -> DecodedTensor:
    """A tensor from a JSON array, nested like the shape or flat, row-major; the nesting itself is not compared.

    Raises:
        Undecodable: an element of another type or out of range, ragged nesting, the wrong number of elements, or
            a datatype that JSON does not carry.
    """
    if head.datatype in _RAW_ONLY:
        raise Undecodable(FailureReason.UNSUPPORTED_DATATYPE, f"tensor {head.name!r}: {head.datatype} as JSON")
    flat, types = _flattened(head, data)
    if head.datatype is Datatype.BYTES:
        return head.tensor(_objects([text.encode() for text in _only(head, flat, types, str)]))
    if head.datatype is Datatype.BOOL:
        return head.tensor(np.array(_only(head, flat, types, bool), dtype=np.bool_))
    if head.datatype in (Datatype.FP32, Datatype.FP64):
        return from_numbers(head, _only(head, flat, types, int, float))
    return from_numbers(head, _only(head, flat, types, int))


def _flattened(head: TensorHead, data: object) -> tuple[list[Any], set[type]]:
    if not isinstance(data, list):
        raise Undecodable(FailureReason.MALFORMED, f"tensor {head.name!r}: data is no array")
    flat, types = data, set(map(type, data))
    while list in types:  # one level per round; the JSON parser bounds the depth
        if len(types) > 1:
            raise head.mismatch("arrays and values side by side")
        flat = list(itertools.chain.from_iterable(flat))
        types = set(map(type, flat))
    return flat, types


def _only(head: TensorHead, flat: list[Any], types: set[type], *allowed: type) -> list[Any]:
    # Checked here because numpy would make numbers of true, null and "1.5".
    for unwanted in types.difference(allowed):
        raise head.bad_value(f"a value of type {unwanted.__name__}")
    return flat


def from_numbers(head: TensorHead, numbers: Sequence[int] | Sequence[float]) -> DecodedTensor:
    """A tensor from whole numbers, or floating point for FP32 and FP64. Too large for FP32 becomes infinity.

    Raises:
        Undecodable: a number that the datatype cannot hold, or the wrong number of elements.
    """
    dtype = _DTYPES[head.datatype]
    if len(numbers) != head.count:
        raise head.mismatch(f"{len(numbers)} elements for shape {list(head.shape)}")
    try:
        if dtype.kind == "f":
            with np.errstate(over="ignore"):
                return head.tensor(np.fromiter(numbers, dtype, head.count))
        if head.datatype is Datatype.UINT64 and min(numbers, default=0) < 0:
            raise head.bad_value("a negative value")
        wide = np.fromiter(numbers, np.uint64 if head.datatype is Datatype.UINT64 else np.int64, head.count)
    except OverflowError as error:
        raise head.bad_value("a value out of range") from error
    bounds = np.iinfo(dtype)
    if wide.size and (wide.min() < bounds.min or wide.max() > bounds.max):
        raise head.bad_value("a value out of range")
    return head.tensor(wide.astype(dtype, copy=False))


def from_contents(head: TensorHead, field: str, values: Sequence[Any]) -> DecodedTensor:
    """A tensor from the gRPC typed contents field ``field``.

    Raises:
        Undecodable: the field is another datatype's, a value does not fit, or there are too many or too few.
    """
    if head.datatype in _RAW_ONLY:
        raise Undecodable(FailureReason.UNSUPPORTED_DATATYPE, f"tensor {head.name!r}: {head.datatype} typed")
    if field != _CONTENTS[head.datatype]:
        raise Undecodable(FailureReason.MIXED_CONTENTS, f"tensor {head.name!r}: {field} for {head.datatype}")
    if head.datatype is Datatype.BYTES:
        return head.tensor(_objects(values))
    if head.datatype is Datatype.BOOL:
        return head.tensor(np.fromiter(values, np.bool_, len(values)))
    return from_numbers(head, values)


_CONTENTS: dict[Datatype, str] = {
    Datatype.BOOL: "bool_contents",
    Datatype.INT8: "int_contents",
    Datatype.INT16: "int_contents",
    Datatype.INT32: "int_contents",
    Datatype.INT64: "int64_contents",
    Datatype.UINT8: "uint_contents",
    Datatype.UINT16: "uint_contents",
    Datatype.UINT32: "uint_contents",
    Datatype.UINT64: "uint64_contents",
    Datatype.FP32: "fp32_contents",
    Datatype.FP64: "fp64_contents",
    Datatype.BYTES: "bytes_contents",
}
