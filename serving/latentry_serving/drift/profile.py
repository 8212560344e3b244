"""The fitted profile: what undrifted traffic looks like and how much its windows vary; saved as arrays and JSON.

A profile is a folder: ``profile.json`` and one ``.npy`` file per array. No pickle. ``profile.json`` names every file
with its SHA-256, so its own SHA-256 is the digest of all of it; equal inputs give equal bytes.
"""

import hashlib
import io
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from latentry_serving.contract.errors import InvalidInput
from latentry_serving.drift import bins, rff
from latentry_serving.drift.counters import EventRate
from latentry_serving.drift.nulls import Tail
from latentry_serving.drift.scores import Baseline, Geometry
from latentry_serving.drift.types import Floats, Integers, Reference, Singles, Statistic
from latentry_serving.drift.windows import Bounds, Kernel

FORMAT = 1
_FILE = "profile.json"


@dataclass(frozen=True, slots=True)
class WorstNull:
    """BINS_MAX: fitted scale of each dimension's G² [d]; ``share``, ``freedom``: see ``nulls.worst``."""

    scale: Floats
    share: float
    freedom: float
    tail_exponent: float
    shared: float


@dataclass(frozen=True, slots=True)
class FitReport:
    """What the fit saw and decided about one tensor.

    Attributes:
        vectors: finite vectors. windows: whole windows left out one at a time.
        dead_dimensions: excluded from the statistics.
        inflation: how much more windows vary than those of independent vectors would, in the statistic where that is
            most; dependent: whether neighbouring vectors are correlated beyond chance.
        notes: sentences for the user: too few windows, order, slots, what is not watched and why.
    """

    vectors: int
    windows: int
    dead_dimensions: int
    inflation: float
    dependent: bool
    notes: tuple[str, ...]


@dataclass(frozen=True)
class TensorProfile:
    """Everything needed to judge one tensor. Arrays are not to be changed.

    Attributes:
        window: vectors per window of the calibration.
        omega, phase: [d, D], [D] random features. bounds: where ln residual energy and ln norm are cut.
        slot_of_hour: [24] hour-of-day slot of each UTC hour; zeros without slots.
        tails: nulls of the quadratic statistics. worst: of BINS_MAX. events: of the counted ones.
        left_out_p: [M, m] p-values of the left-out windows, columns as ``statistics``; NaN where not judged.
    """

    name: str
    window: int
    reference: Reference
    omega: Singles
    phase: Singles
    bounds: Bounds
    slot_of_hour: Integers
    baseline: Baseline
    feature_variance: float
    whitened_variance: float
    tails: Mapping[Statistic, Tail]
    worst: WorstNull | None
    events: Mapping[Statistic, EventRate]
    left_out_p: Floats
    report: FitReport

    def __post_init__(self) -> None:
        """Watching wants ``omega`` and the basis side by side: kept like that once, they take half the memory."""
        together, features = rff.joined(self.omega, self.reference.basis), self.omega.shape[1]
        object.__setattr__(self, "omega", together[:, :features])
        object.__setattr__(self, "reference", replace(self.reference, basis=together[:, features:]))

    @property
    def statistics(self) -> tuple[Statistic, ...]:
        """What is watched, in the order of ``Statistic``."""
        watched = {*self.tails, *self.events, *([] if self.worst is None else [Statistic.BINS_MAX])}
        return tuple(s for s in Statistic if s in watched)

    @property
    def slots(self) -> int:
        return int(self.slot_of_hour.max()) + 1

    def shared(self, statistic: Statistic) -> float:
        """Share of the variance of a window's normal score that comes from the finite reference, in [0, 1/4)."""
        if statistic in self.tails:
            return self.tails[statistic].shared
        return self.worst.shared if statistic is Statistic.BINS_MAX and self.worst is not None else 0.0

    def kernel(self) -> Kernel:
        """A fresh kernel with scratch space of its own."""
        return Kernel(self.reference, self.omega, self.phase, self.bounds)

    @cached_property
    def geometry(self) -> Geometry:
        degrees = np.where(self.reference.alive, bins.degrees(self.reference.bin_shares), 0)
        return Geometry.of(self.reference, degrees, self.feature_variance, self.whitened_variance)


@dataclass(frozen=True)
class Profile:
    """Tensors by name, where they came from, and the seed of every random draw."""

    tensors: Mapping[str, TensorProfile]
    seed: int
    provenance: Mapping[str, str] = field(default_factory=dict)

    def save(self, folder: Path) -> str:
        """Writes the profile; returns its digest. The folder is created; files of the same name are replaced."""
        folder.mkdir(parents=True, exist_ok=True)
        files: dict[str, str] = {}
        tensors = []
        for index, tensor in enumerate(self.tensors.values()):
            arrays = _arrays(tensor)
            for name, array in arrays.items():
                content = _npy(array)
                file = f"{index}-{name}.npy"
                (folder / file).write_bytes(content)
                files[file] = hashlib.sha256(content).hexdigest()
            tensors.append(_document(tensor))
        document = {
            "format": FORMAT,
            "seed": self.seed,
            "provenance": dict(self.provenance),
            "tensors": tensors,
            "files": files,
        }
        content = (json.dumps(document, indent=1, sort_keys=True) + "\n").encode()
        (folder / _FILE).write_bytes(content)
        return _digest(content)

    @classmethod
    def load(cls, folder: Path, *, digest: str | None = None) -> "Profile":
        """Reads a profile and checks every file against its SHA-256, and all against ``digest`` if given.

        Raises:
            InvalidInput: no profile there, another format, a file that is missing or changed.
        """
        content = _read(folder / _FILE)
        if digest is not None and _digest(content) != digest:
            raise _broken(folder / _FILE, f"has digest {_digest(content)}, not {digest}")
        try:
            document = json.loads(content)
            if document.get("format") != FORMAT:
                raise _broken(folder / _FILE, f"is of format {document.get('format')!r}, this version reads {FORMAT}")
            arrays = {name: _load(folder / name, sha256) for name, sha256 in document["files"].items()}
            tensors = [_tensor(item, index, arrays) for index, item in enumerate(document["tensors"])]
            return cls({t.name: t for t in tensors}, document["seed"], document["provenance"])
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise _broken(folder / _FILE, f"cannot be read: {error!r}") from error


_REFERENCE_ARRAYS = tuple(f.name for f in fields(Reference) if f.type not in ("float", float))
_BASELINE_ARRAYS = tuple(f.name for f in fields(Baseline))
_OWN_ARRAYS = ("omega", "phase", "slot_of_hour", "left_out_p")


def _arrays(tensor: TensorProfile) -> dict[str, np.ndarray[Any, Any]]:
    found = {name: getattr(tensor, name) for name in _OWN_ARRAYS}
    found |= {f"reference-{name}": getattr(tensor.reference, name) for name in _REFERENCE_ARRAYS}
    found |= {f"baseline-{name}": getattr(tensor.baseline, name) for name in _BASELINE_ARRAYS}
    if tensor.worst is not None:
        found["worst-scale"] = tensor.worst.scale
    return found


def _document(tensor: TensorProfile) -> dict[str, Any]:
    worst = tensor.worst
    scalars = [f.name for f in fields(Reference) if f.name not in _REFERENCE_ARRAYS]
    return {
        "name": tensor.name,
        "window": tensor.window,
        "bounds": asdict(tensor.bounds),
        "feature_variance": tensor.feature_variance,
        "whitened_variance": tensor.whitened_variance,
        "reference": {name: _number(getattr(tensor.reference, name)) for name in scalars},
        "tails": {str(s): _tail_document(t) for s, t in tensor.tails.items()},
        "worst": None
        if worst is None
        else {k: _number(getattr(worst, k)) for k in ("share", "freedom", "tail_exponent", "shared")},
        "events": {str(s): asdict(e) for s, e in tensor.events.items()},
        "report": asdict(tensor.report),
    }


def _tail_document(tail: Tail) -> dict[str, Any]:
    scalars = {name: _number(getattr(tail, name)) for name in ("scale", "freedom", "tail_exponent", "shared")}
    return scalars | {"windows": tail.windows, "log_score": tail.log_score.tolist(), "log_p": tail.log_p.tolist()}


def _tensor(item: dict[str, Any], index: int, arrays: Mapping[str, np.ndarray[Any, Any]]) -> TensorProfile:
    def array(name: str) -> Any:
        return arrays[f"{index}-{name}.npy"]

    scalars: dict[str, Any] = {name: _value(value) for name, value in item["reference"].items()}
    reference = Reference(**{name: array(f"reference-{name}") for name in _REFERENCE_ARRAYS}, **scalars)
    worst = item["worst"]
    report = item["report"]
    return TensorProfile(
        name=item["name"],
        window=item["window"],
        reference=reference,
        **{name: array(name) for name in _OWN_ARRAYS},
        bounds=Bounds(**{name: tuple(pair) for name, pair in item["bounds"].items()}),
        baseline=Baseline(**{name: array(f"baseline-{name}") for name in _BASELINE_ARRAYS}),
        feature_variance=item["feature_variance"],
        whitened_variance=item["whitened_variance"],
        tails={Statistic(s): _tail(t) for s, t in item["tails"].items()},
        worst=None
        if worst is None
        else WorstNull(array("worst-scale"), **{name: _value(value) for name, value in worst.items()}),
        events={Statistic(s): EventRate(**e) for s, e in item["events"].items()},
        report=FitReport(**{**report, "notes": tuple(report["notes"])}),
    )


def _tail(item: dict[str, Any]) -> Tail:
    numbers = {name: _value(item[name]) for name in ("scale", "freedom", "tail_exponent", "shared")}
    return Tail(np.array(item["log_score"]), np.array(item["log_p"]), windows=item["windows"], **numbers)


def _number(value: float) -> float | None:
    """JSON has no infinity; where one can occur, null stands for it."""
    return None if np.isinf(value) else float(value)


def _value(value: float | None) -> float:
    return float("inf") if value is None else float(value)


def _npy(array: np.ndarray[Any, Any]) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.ascontiguousarray(array), allow_pickle=False)
    return buffer.getvalue()


def _load(path: Path, sha256: str) -> np.ndarray[Any, Any]:
    content = _read(path)
    if hashlib.sha256(content).hexdigest() != sha256:
        raise _broken(path, "is not what profile.json promises (SHA-256 differs)")
    array: np.ndarray[Any, Any] = np.load(io.BytesIO(content), allow_pickle=False)
    return array


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise _broken(path, f"cannot be read: {error.strerror}") from error


def _digest(content: bytes) -> str:
    return "sha256:" + hashlib.sha256(content).hexdigest()


def _broken(path: Path, problem: str) -> InvalidInput:
    return InvalidInput.one(
        "profile", path=str(path), problem=problem, remedy="fit it again (latentry profile fit) or restore the folder"
    )
