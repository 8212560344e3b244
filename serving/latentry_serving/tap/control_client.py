"""For whoever started a tap: telling it, through its control socket, to accept clients or to hand them over."""

from typing import Any

from latentry_serving.contract.errors import OperationFailed
from latentry_serving.tap.control_wire import ANSWER_SECONDS, ControlWire


async def ask(path: str, do: str, *, seconds: float = 0.0, **more: object) -> dict[str, Any]:
    """What a tap answers to a command (docs/tap.md, control socket).

    Args:
        path: its control socket.
        do: ``status``, ``accept``, ``stop accepting``, ``hold``, or ``hand over`` (with ``to``: the other tap's control
            socket).
        seconds: how long a handover may take; how long clients may wait for another tap.

    Raises:
        OperationFailed: it does not answer, or refuses.
    """
    try:
        wire = await ControlWire.connect(path)
        try:
            return await wire.ask({"do": do, "seconds": seconds, **more}, seconds=seconds + ANSWER_SECONDS)
        finally:
            wire.close()
    except OSError as error:
        raise OperationFailed(
            f"no answer from the tap at {path} to {do!r}: {error.strerror or error}",
            remedy="see whether it runs, and its log",
        ) from error
