"""Which changes between two contracts break clients, and why. Pure.

The rule: a client written against the first bundle must get from the second what it got before. Vectors it has stored
must stay comparable (embedding space, normalisation, dimension), calls must stay valid, and numbers must keep their
meaning (units, reductions, preprocessing).
"""

from collections.abc import Iterator
from enum import StrEnum

from pydantic import BaseModel, ConfigDict

from latentry_serving.contract.manifest import Contract, OperationContract, TensorSpec


class Effect(StrEnum):
    """What a change does to clients of the first bundle."""

    BREAKING = "breaking"
    COMPATIBLE = "compatible"


class Change(BaseModel):
    """One difference."""

    model_config = ConfigDict(frozen=True)

    path: str
    """Where in the contract: ``operations.encode.inputs.image.shape``."""
    effect: Effect
    before: str
    after: str
    reason: str


_WHOLE = {
    "family": "the operations mean something else",
    "latent_dimension": "stored vectors and decode inputs have another length",
    "embedding_space": "vectors of the two must not be mixed in one index",
    "normalisation": "distances between stored and new vectors change",
    "prior": "sample and KL are measured from another prior",
    "reconstruction_error": "errors are on another scale, so thresholds no longer hold",
    "preprocessing": "clients must prepare their inputs otherwise",
}


def contract_changes(before: Contract, after: Contract) -> list[Change]:
    """Every difference between two contracts, in the contract's order."""
    changes = [
        Change(
            path=str(Contract.model_fields[name].alias or name),
            effect=Effect.BREAKING,
            before=_text(getattr(before, name)),
            after=_text(getattr(after, name)),
            reason=reason,
        )
        for name, reason in _WHOLE.items()
        if getattr(before, name) != getattr(after, name)
    ]
    for operation in sorted(before.operations.keys() | after.operations.keys()):
        path = f"operations.{operation}"
        old, new = before.operations.get(operation), after.operations.get(operation)
        if old is None and new is not None:
            changes.append(_compatible(path, "", new.model, "nobody calls a new operation yet"))
        elif old is not None and new is None:
            changes.append(_breaking(path, old.model, "", "clients call it"))
        elif old is not None and new is not None:
            changes += _operation_changes(path, old, new)
    return changes


def batch_change(path: str, before: int, after: int) -> Change | None:
    """The change of the most rows one request may carry, None when there is none."""
    if before == after:
        return None
    if after < before:
        return _breaking(path, str(before), str(after), "requests with more rows are now refused")
    return _compatible(path, str(before), str(after), "larger requests are accepted too")


def _operation_changes(path: str, old: OperationContract, new: OperationContract) -> Iterator[Change]:
    if old.model != new.model:
        yield _breaking(f"{path}.model", old.model, new.model, "clients address the model by name")
    for side, before, after in (("inputs", old.inputs, new.inputs), ("outputs", old.outputs, new.outputs)):
        yield from _side_changes(f"{path}.{side}", before, after, given=side == "inputs")


def _side_changes(
    path: str, before: tuple[TensorSpec, ...], after: tuple[TensorSpec, ...], *, given: bool
) -> Iterator[Change]:
    """``given``: clients give these tensors; otherwise they receive them."""
    old, new = {tensor.name: tensor for tensor in before}, {tensor.name: tensor for tensor in after}
    for name in old:
        if name not in new:
            reason = "clients send an input the model does not know" if given else "clients read it"
            yield _breaking(f"{path}.{name}", _tensor(old[name]), "", f"{reason}; it was removed or renamed")
    for name in new:
        if name not in old and given:
            yield _breaking(f"{path}.{name}", "", _tensor(new[name]), "clients do not send it")
        elif name not in old:
            yield _compatible(f"{path}.{name}", "", _tensor(new[name]), "nobody reads a new output yet")
        else:
            yield from _tensor_changes(f"{path}.{name}", old[name], new[name], given=given)


def _tensor_changes(path: str, old: TensorSpec, new: TensorSpec, *, given: bool) -> Iterator[Change]:
    if old.datatype is not new.datatype:
        yield _breaking(f"{path}.datatype", old.datatype, new.datatype, "tensors are encoded otherwise")
    if old.shape != new.shape:
        # Callers may send less than is accepted, readers must expect no more than before.
        wide, narrow = (new.shape, old.shape) if given else (old.shape, new.shape)
        accepts = len(wide) == len(narrow) and all(w in (-1, n) for w, n in zip(wide, narrow, strict=True))
        yield Change(
            path=f"{path}.shape",
            effect=Effect.COMPATIBLE if accepts else Effect.BREAKING,
            before=str(list(old.shape)),
            after=str(list(new.shape)),
            reason="every shape used before still fits" if accepts else "shapes used before no longer fit",
        )
    if old.unit != new.unit and old.unit and new.unit:
        yield _breaking(f"{path}.unit", old.unit, new.unit, "the numbers mean something else")
    elif old.unit != new.unit:
        yield _compatible(f"{path}.unit", old.unit, new.unit, "one of the two does not state it")
    if old.range != new.range:
        wide_range, narrow_range = (new.range, old.range) if given else (old.range, new.range)
        contains = wide_range is None or (
            narrow_range is not None and wide_range[0] <= narrow_range[0] and narrow_range[1] <= wide_range[1]
        )
        yield Change(
            path=f"{path}.range",
            effect=Effect.COMPATIBLE if contains else Effect.BREAKING,
            before=_text(old.range),
            after=_text(new.range),
            reason="every value used before still fits" if contains else "values used before lie outside",
        )


def _breaking(path: str, before: str, after: str, reason: str) -> Change:
    return Change(path=path, effect=Effect.BREAKING, before=before, after=after, reason=reason)


def _compatible(path: str, before: str, after: str, reason: str) -> Change:
    return Change(path=path, effect=Effect.COMPATIBLE, before=before, after=after, reason=reason)


def _tensor(tensor: TensorSpec) -> str:
    return f"{tensor.datatype} {list(tensor.shape)}"


def _text(value: object) -> str:
    if isinstance(value, BaseModel):
        return ", ".join(f"{name} {getattr(value, name):g}" for name in type(value).model_fields)
    return "" if value is None else str(value)
