"""Element types as the contract, ONNX and numpy spell them."""

from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import TensorProto

from latentry_serving.contract.manifest import Datatype

Array = npt.NDArray[Any]

_ONNX: dict[int, Datatype] = {
    TensorProto.BOOL: Datatype.BOOL,
    TensorProto.UINT8: Datatype.UINT8,
    TensorProto.UINT16: Datatype.UINT16,
    TensorProto.UINT32: Datatype.UINT32,
    TensorProto.UINT64: Datatype.UINT64,
    TensorProto.INT8: Datatype.INT8,
    TensorProto.INT16: Datatype.INT16,
    TensorProto.INT32: Datatype.INT32,
    TensorProto.INT64: Datatype.INT64,
    TensorProto.FLOAT16: Datatype.FP16,
    TensorProto.FLOAT: Datatype.FP32,
    TensorProto.DOUBLE: Datatype.FP64,
}
_ELEMENT_TYPES = {datatype: number for number, datatype in _ONNX.items()}
_NUMPY = {
    Datatype.BOOL: np.bool_,
    Datatype.UINT8: np.uint8,
    Datatype.UINT16: np.uint16,
    Datatype.UINT32: np.uint32,
    Datatype.UINT64: np.uint64,
    Datatype.INT8: np.int8,
    Datatype.INT16: np.int16,
    Datatype.INT32: np.int32,
    Datatype.INT64: np.int64,
    Datatype.FP16: np.float16,
    Datatype.FP32: np.float32,
    Datatype.FP64: np.float64,
}
FLOATING = frozenset({Datatype.FP16, Datatype.FP32, Datatype.FP64})


def datatype_of(element_type: int) -> Datatype | None:
    """The contract's word for an ONNX element type; None for text, bfloat16, complex and sub-byte types."""
    return _ONNX.get(element_type)


def element_type_of(datatype: Datatype) -> int:
    """ONNX's number for a type that a bundle's tensor can have."""
    return _ELEMENT_TYPES[datatype]


def numpy_dtype(datatype: Datatype) -> np.dtype[Any]:
    """numpy's dtype, little-endian on every machine, so that stored arrays are the same bytes."""
    return np.dtype(_NUMPY[datatype]).newbyteorder("<")
