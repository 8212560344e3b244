"""One comparison in a process of its own: its numerics would hold up the traffic, its memory goes with it.

``python -m latentry_serving.tap.compare_worker`` reads a task from standard input, a JSON line and as float32 the two
arrays and both versions' reconstruction errors, and writes a JSON line and the map's files to standard output. Exit
code 2 with a sentence on standard error: the embeddings cannot be compared.
"""

import os
import sys
from typing import Any

import numpy as np

from latentry_serving.compare.bounds import Bounded
from latentry_serving.compare.reconstruction import error_ratio
from latentry_serving.compare.verdict import FEWEST_PAIRS, Comparison, Thresholds, compare
from latentry_serving.contract.comparison import ComparisonResult, Interval, Reconstruction
from latentry_serving.contract.errors import InvalidInput
from latentry_serving.tap.compare_task import INCOMPARABLE, Finished, Scored, Task

_NICE = 10
_SEED = 0
"""The same pairs give the same answer at every look."""


_Array = np.ndarray[Any, Any]


def finish(task: Task, old: _Array, new: _Array, errors: _Array) -> tuple[Finished, list[bytes]]:
    """Compares [rows, old dimensions] with [rows, new dimensions], and errors [2, scored inputs], old and new.

    Raises:
        InvalidInput: too many rows, or values that are not finite.
    """
    limits = Thresholds(cosine=task.cosine, overlap=task.overlap, recall=task.recall, norm_ratio=task.norm_ratio)
    found = compare(old, new, np.random.default_rng(_SEED), limits)
    files = found.map.to_files(old=task.old, new=task.new) if found.map is not None else {}
    reconstruction = _reconstruction(task.scored, errors) if task.scored is not None else None
    result = _result(task, found, reconstruction, len(files.get("map.npy", b"")))
    return Finished(result=result, files={name: len(data) for name, data in files.items()}), list(files.values())


def _reconstruction(scored: Scored, errors: _Array) -> Reconstruction:
    old, new = errors.astype(np.float64)
    ratio = error_ratio(old, new, scored.negligible, np.random.default_rng(_SEED))
    return Reconstruction(**scored.model_dump(exclude={"negligible"}), ratio=_interval(ratio))


def _result(task: Task, found: Comparison, reconstruction: Reconstruction | None, map_bytes: int) -> ComparisonResult:
    return ComparisonResult(
        pairs=found.pairs,
        golden=task.golden,
        live=task.live,
        needed=FEWEST_PAIRS,
        neighbours=found.neighbours,
        cosine=_interval(found.cosine),
        overlap=_interval(found.overlap),
        recall=_interval(found.recall),
        norm_ratio=_interval(found.norm_ratio),
        not_finite=task.not_finite,
        aligned_recall=_interval(found.aligned_recall) if found.aligned_recall is not None else None,
        space=found.space,
        reconstruction=reconstruction,
        map_bytes=map_bytes,
        notes=list(found.notes),
    )


def _interval(figure: Bounded) -> Interval:
    return Interval(value=figure.value, low=figure.low, high=figure.high)


def main() -> int:
    """Does one task."""
    os.nice(_NICE)
    task = Task.model_validate_json(sys.stdin.buffer.readline())
    values = np.frombuffer(sys.stdin.buffer.read(), "<f4")
    old, new, errors = np.split(values, np.cumsum([task.rows * task.old_dimensions, task.rows * task.new_dimensions]))
    try:
        finished, files = finish(
            task,
            old.reshape(task.rows, task.old_dimensions),
            new.reshape(task.rows, task.new_dimensions),
            errors.reshape(2, -1),
        )
    except InvalidInput as error:
        sys.stderr.write("; ".join(f"{problem.path}: {problem.problem}" for problem in error.problems))
        return INCOMPARABLE
    sys.stdout.buffer.write(finished.model_dump_json().encode() + b"\n" + b"".join(files))
    return 0


if __name__ == "__main__":
    sys.exit(main())
