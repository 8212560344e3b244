"""Header blocks of one HTTP/2 direction: decoded by `hpack`, remembered while that is provably right. Pure.

Decoding is a function of the block and the dynamic table. A result is kept only when decoding it left the table alone,
and every result is dropped as soon as the table changes: a remembered answer is the answer `hpack` would give.
"""

from typing import NamedTuple

from hpack import Decoder, HPACKError, InvalidTableSizeError, OversizedHeaderListError
from hpack.table import HeaderTable

from latentry_serving.sli.trace import TraceContext, parse_trace_context
from latentry_serving.tap.observation import malformed, too_large

MAX_HEADER_LIST_BYTES = 65_536
MAX_TABLE_BYTES = 65_536
_REMEMBERED_BLOCKS = 64
_REMEMBERED_BLOCK_BYTES = 512


class Fields(NamedTuple):
    """The header fields that decide about a call; empty when absent."""

    path: bytes
    status: bytes
    grpc_status: bytes
    grpc_timeout: bytes
    grpc_encoding: bytes
    host: bytes
    content_type: bytes
    trace: TraceContext | None
    content_encoding: bytes = b""
    header_length: bytes = b""
    body_bytes: int = 0
    method: bytes = b"POST"


_POSITIONS = {
    b":path": 0, b":status": 1, b"grpc-status": 2, b"grpc-timeout": 3, b"grpc-encoding": 4, b":authority": 5,
    b"content-type": 6, b"traceparent": 7, b"tracestate": 8,
}  # fmt: skip
_TRACEPARENT, _TRACESTATE = 7, 8


class _WatchedTable(HeaderTable):
    """A dynamic table that tells whether it is still what it was."""

    def __init__(self) -> None:
        super().__init__()
        self._additions = 0

    def add(self, name: bytes, value: bytes) -> None:
        self._additions += 1
        super().add(name, value)

    @property
    def state(self) -> tuple[int, int, int]:
        """Equal at two times only when the table is: without an addition, entries can only fall out, oldest first."""
        return self._additions, len(self.dynamic_entries), self.maxsize


class HeaderBlocks:
    """Decodes the header blocks of one direction, in order."""

    def __init__(self) -> None:
        self._table = _WatchedTable()
        self._decoder = Decoder(max_header_list_size=MAX_HEADER_LIST_BYTES)
        self._decoder.header_table = self._table
        self._remembered: dict[bytes, Fields] = {}

    def allow_table_size(self, size: int) -> None:
        """The receiver allows a table of ``size`` bytes. The sender announces what it uses inside its blocks.

        The largest size ever allowed stays valid here: blocks encoded before the sender learned of a smaller one may
        still be under way.
        """
        allowed = max(self._decoder.max_allowed_table_size, size)
        self._decoder.max_allowed_table_size = min(allowed, MAX_TABLE_BYTES)

    def decode(self, block: bytes) -> Fields:
        """The fields of a whole header block.

        Raises:
            SightLost: the block is malformed, or larger than the limits once decoded.
        """
        fields = self._remembered.get(block)
        if fields is not None:
            return fields
        before = self._table.state
        try:
            headers = self._decoder.decode(block, raw=True)
        except (OversizedHeaderListError, InvalidTableSizeError) as error:
            raise too_large(str(error)) from error
        except HPACKError as error:
            raise malformed(str(error)) from error
        values = [b""] * len(_POSITIONS)
        for name, value in headers:
            position = _POSITIONS.get(name)
            if position is not None:
                values[position] = value if position < _TRACEPARENT else _joined(values[position], value)
        trace = parse_trace_context(values[_TRACEPARENT], values[_TRACESTATE])
        path, status, grpc_status, grpc_timeout, grpc_encoding, host, content_type, *_ = values
        fields = Fields(path, status, grpc_status, grpc_timeout, grpc_encoding, host, content_type, trace)
        self._remember(block, fields, unchanged=before == self._table.state)
        return fields

    def _remember(self, block: bytes, fields: Fields, *, unchanged: bool) -> None:
        if not unchanged:
            self._remembered.clear()
        elif len(block) <= _REMEMBERED_BLOCK_BYTES:
            if len(self._remembered) >= _REMEMBERED_BLOCKS:
                self._remembered.clear()
            self._remembered[block] = fields


def _joined(earlier: bytes, value: bytes) -> bytes:
    """A trace field given twice counts as one list: RFC 9110, 5.3."""
    return earlier + b"," + value if earlier else value
