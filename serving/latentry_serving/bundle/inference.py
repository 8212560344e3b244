"""A bundle's own operations on many inputs with ONNX Runtime: the watched tensors, row by row."""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from latentry_serving.bundle.session import LOAD_ERRORS, Session, sentence
from latentry_serving.bundle.tensors import Array
from latentry_serving.contract.errors import InvalidInput
from latentry_serving.contract.manifest import REPOSITORY_FOLDER, Contract
from latentry_serving.contract.operations import Operation
from latentry_serving.contract.watched import Watched, watched_tensors
from latentry_serving.triton.model_config import MODEL_FILE, MODEL_VERSION

BATCH = 256
"""Rows at once, always: another batch size may round differently, and the profile's digest is to be repeatable."""


def _silent(_: str, __: float) -> None:
    return None


class Runner:
    """The operations of one bundle that watched tensors come from, loaded.

    Raises:
        InvalidInput: a graph that does not load.
    """

    def __init__(self, bundle_dir: Path, contract: Contract) -> None:
        self.watched = watched_tensors(contract)
        self._contract = contract
        self._subject = str(bundle_dir)
        needed = dict.fromkeys(w.operation for w in self.watched if w.side == "output")
        self._sessions = {operation: self._load(bundle_dir, operation) for operation in needed}

    def run(self, inputs: Mapping[str, Array], progress: Callable[[str, float], None] = _silent) -> dict[str, Array]:
        """Watched tensors [n, d] by name, in batches.

        Args:
            inputs: the model's inputs by name, [n, ...] each.
            progress: told what is done and its share, 0 to 1.

        Raises:
            InvalidInput: the model cannot take the inputs; the rows are named.
        """
        rows = len(next(iter(inputs.values())))
        found = {w.name: inputs[w.tensor].reshape(rows, -1) for w in self.watched if w.side == "input"}
        for operation, session in self._sessions.items():
            names = [w for w in self.watched if w.operation is operation and w.side == "output"]
            parts: dict[str, list[Array]] = {w.name: [] for w in names}
            for start in range(0, rows, BATCH):
                progress(f"running {operation}", start / rows)
                outputs = self._run(operation, session, inputs, slice(start, min(rows, start + BATCH)))
                for w in names:
                    parts[w.name].append(_flat(outputs[w.tensor], w))
            found |= {name: np.concatenate(arrays) for name, arrays in parts.items()}
        return {w.name: found[w.name] for w in self.watched}

    def _load(self, bundle_dir: Path, operation: Operation) -> Session:
        folder = bundle_dir / REPOSITORY_FOLDER / self._contract.operations[operation].model
        try:
            return Session(folder / MODEL_VERSION / MODEL_FILE)
        except LOAD_ERRORS as error:
            raise InvalidInput.one(
                self._subject,
                path=operation,
                problem=f"its graph does not load: {sentence(error)}",
                remedy="check the bundle with latentry bundle verify, or rebuild it",
            ) from error

    def _run(
        self, operation: Operation, session: Session, inputs: Mapping[str, Array], rows: slice
    ) -> dict[str, Array]:
        try:
            return session.run({name: array[rows] for name, array in inputs.items()})
        except LOAD_ERRORS as error:
            raise InvalidInput.one(
                self._subject,
                path=operation,
                problem=f"the model fails on rows {rows.start} to {rows.stop - 1} of the inputs: {sentence(error)}",
                remedy="check that the inputs are of the kind the model was built for",
            ) from error


def _flat(array: Array, watched: Watched) -> Array:
    return array.reshape(len(array), watched.dimensions)
