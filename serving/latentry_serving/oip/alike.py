"""Messages that differ from an earlier one in raw data alone, as nearly all of a model's do, are not parsed again.

Protobuf messages written one after the other parse as their merge. So where a message's bytes are those of all but its
raw contents, then those of each of these, any data of the same lengths in their places make a message that says the
same of other data.
"""

from dataclasses import replace
from typing import NamedTuple

from latentry_serving.oip.elements import TensorHead, from_raw
from latentry_serving.oip.message import DecodedMessage, Direction
from latentry_serving.oip.oip_pb2 import ModelInferRequest, ModelInferResponse

_MOST = 32
"""Forms remembered: the batch sizes of a model, in both directions."""
_LONGEST = 1024
"""Bytes of a message beside its raw contents: clients may name things as they like."""

Message = ModelInferRequest | ModelInferResponse


class _Form(NamedTuple):
    """Which bytes are where in a message, where its tensors' data is, and what it says beside them."""

    fixed: list[tuple[slice, bytes]]
    data: list[tuple[slice, TensorHead]]
    rest: DecodedMessage

    def fits(self, data: memoryview) -> bool:
        return all(data[place] == expected for place, expected in self.fixed)


class Alike:
    """The forms of messages seen, the latest of each length. One with an id or parameters is no example for others."""

    def __init__(self) -> None:
        self._forms: dict[tuple[Direction, int], _Form] = {}

    def read(self, data: memoryview, direction: Direction) -> DecodedMessage | None:
        """What a message says; None where none of its form is known.

        Raises:
            Undecodable: an element of BYTES is cut short.
        """
        form = self._forms.get((direction, len(data)))
        if form is None or not form.fits(data):
            return None
        name, version = form.rest.model_name, form.rest.model_version
        tensors = tuple([from_raw(head, data[place]) for place, head in form.data])
        return DecodedMessage(name, version, "", tensors, {}, form.rest.requested_outputs)

    def learn(self, data: memoryview, direction: Direction, message: Message, read: DecodedMessage) -> None:
        """Remembers the form of a message that was parsed and read, where it has one."""
        if message.id or message.parameters:
            return
        field = "raw_input_contents" if isinstance(message, ModelInferRequest) else "raw_output_contents"
        raw: list[bytes] = list(getattr(message, field))
        if not raw or len(data) - sum(map(len, raw)) > _LONGEST:
            return
        message.ClearField(field)
        form = _Form([], [], replace(read, tensors=()))
        before, at = message.SerializeToString(), 0
        for tensor, content in zip(read.tensors, raw, strict=True):
            alone = type(message)()
            getattr(alone, field).append(content)
            before += alone.SerializeToString()[: alone.ByteSize() - len(content)]
            start = at + len(before)
            form.fixed.append((slice(at, start), before))
            at, before = start + len(content), b""
            form.data.append((slice(start, at), TensorHead(tensor.name, tensor.datatype, tensor.shape)))
        if at != len(data) or not form.fits(data):
            return  # written in another order, or differently
        self._forms.pop((direction, at), None)
        self._forms[direction, at] = form
        while len(self._forms) > _MOST:
            del self._forms[next(iter(self._forms))]
