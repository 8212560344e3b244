"""From samples to the rows of watched tensors, in batches. Pure."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from math import prod
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from latentry_serving.contract.manifest import Contract
from latentry_serving.contract.operations import Operation
from latentry_serving.contract.watched import watched_tensors
from latentry_serving.oip import DecodedTensor
from latentry_serving.tap.analysis_decode import Sample

BATCH_ROWS = 64
"""Most rows worked on before the process gives way: 0.7 ms at 768 dimensions."""
_TAKE_INPUTS = (Operation.ENCODE, Operation.RECONSTRUCT, Operation.SCORE)
_FORGET_SECONDS = 60.0

Rows = NDArray[np.float32]


class _Source(NamedTuple):
    """Where a watched tensor passes in one operation's calls."""

    name: str
    tensor: str
    dimensions: int
    of_request: bool


class WatchedRows:
    """Picks the watched tensors out of samples.

    The model's inputs are taken from one operation at a time: the first of encode, reconstruct and score that was seen
    within the last minute. A client that encodes an image and then scores it would otherwise look like one that sends
    everything twice.
    """

    def __init__(self, contract: Contract) -> None:
        self._inputs: dict[Operation, list[_Source]] = {}
        self._outputs: dict[Operation, list[_Source]] = {}
        self._seen_s: dict[Operation, float] = {}
        self.watched = watched_tensors(contract)
        for watched in self.watched:
            source = _Source(watched.name, watched.tensor, watched.dimensions, watched.side == "input")
            if not source.of_request:
                self._outputs.setdefault(watched.operation, []).append(source)
                continue
            for operation in _TAKE_INPUTS:
                call = contract.operations.get(operation)
                if call and any(t.name == watched.tensor and prod(t.shape) == watched.dimensions for t in call.inputs):
                    self._inputs.setdefault(operation, []).append(source)

    def of(self, sample: Sample) -> dict[str, Rows]:
        """Watched tensor -> rows [n, d] float32; what cannot be held in float32 becomes infinite.

        Raises:
            ValueError: a tensor has another shape than the contract's.
        """
        operation = Operation(sample.operation)
        sources = list(self._outputs.get(operation, ()))
        if operation in self._inputs and self._gives_inputs(operation, sample.time_s):
            sources += self._inputs[operation]
        sent, answered = _named(sample.request), _named(sample.response)
        found = {}
        for source in sources:
            array = (sent if source.of_request else answered).get(source.tensor)
            if array is not None:
                found[source.name] = _rows(array, source)
        return found

    def _gives_inputs(self, operation: Operation, now_s: float) -> bool:
        self._seen_s[operation] = now_s
        before = _TAKE_INPUTS[: _TAKE_INPUTS.index(operation)]
        return not any(now_s - self._seen_s.get(other, -np.inf) < _FORGET_SECONDS for other in before)


class Batches:
    """Collects rows of several arrays that belong together, and hands them on by up to ``BATCH_ROWS``."""

    def __init__(self, widths: Sequence[int], *takers: Callable[..., None]) -> None:
        """
        Args:
            widths: columns of each array.
            takers: each called with as many arrays [n, width]; valid during the call only, and not to be changed.
        """
        self._buffers = [np.empty((BATCH_ROWS, width), np.float32) for width in widths]
        self._takers = list(takers)
        self._filled = 0

    def also(self, take: Callable[..., None]) -> None:
        """Somebody else who takes the same rows."""
        self._takers.append(take)

    def add(self, arrays: Sequence[Rows]) -> None:
        """Adds rows [n, width] of each."""
        rows, start = len(arrays[0]), 0
        if len(arrays) > 1 and any(len(array) != rows for array in arrays):
            raise ValueError(f"rows that do not belong together: {[len(array) for array in arrays]}")
        while start < rows:
            stop = min(rows, start + BATCH_ROWS - self._filled)
            for buffer, array in zip(self._buffers, arrays, strict=True):
                buffer[self._filled : self._filled + stop - start] = array[start:stop]
            self._filled += stop - start
            start = stop
            if self._filled == BATCH_ROWS:
                self.flush()

    def flush(self) -> None:
        """Hands on what there is."""
        filled, self._filled = self._filled, 0
        if filled:
            arrays = [buffer[:filled] for buffer in self._buffers]
            for take in self._takers:
                take(*arrays)


class Feeds:
    """Batches for everybody who wants rows: each names the tensors it needs together."""

    def __init__(self) -> None:
        self._feeds: dict[tuple[str, ...], Batches] = {}

    def add(self, tensors: Mapping[str, int], take: Callable[..., None]) -> None:
        """``tensors``: name -> columns, in the order ``take`` gets them. Who needs the same ones shares a batch."""
        names = tuple(tensors)
        if names in self._feeds:
            self._feeds[names].also(take)
        else:
            self._feeds[names] = Batches(tuple(tensors.values()), take)

    def put(self, rows: Mapping[str, Rows]) -> None:
        """Rows of one sample; who needs a tensor that is not there gets nothing."""
        for names, batches in self._feeds.items():
            if all(name in rows for name in names):
                batches.add([rows[name] for name in names])

    def flush(self) -> None:
        """Hands on whatever waits."""
        for batches in self._feeds.values():
            batches.flush()


def _named(tensors: Iterable[DecodedTensor]) -> dict[str, NDArray[Any]]:
    return {tensor.name: tensor.array for tensor in tensors}


def _rows(array: NDArray[Any], source: _Source) -> Rows:
    rows = len(array) if array.ndim else 0
    if rows == 0 or array.size != rows * source.dimensions:
        raise ValueError(f"{source.tensor} has shape {list(array.shape)}, the contract says {source.dimensions} values")
    flat = array.reshape(rows, source.dimensions)
    if flat.dtype == np.float32:
        return flat
    with np.errstate(over="ignore"):
        return np.asarray(flat, np.float32)
