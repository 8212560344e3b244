"""One admin address over all revisions: led to the right tap, cut from the last one, refused where there is none."""

import asyncio
import socket

from latentry_operator.local.admin_door import AdminDoor
from latentry_serving.contract.tap_config import Address


async def tap(name: bytes) -> tuple[asyncio.Server, Address]:
    """A server that answers each line with its name."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            writer.write(name + b" " + line)
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    return server, Address(port=server.sockets[0].getsockname()[1])


async def test_the_address_stays_and_leads_to_the_revision_with_the_traffic() -> None:
    (old, old_at), (new, new_at) = await tap(b"old"), await tap(b"new")
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    async with AdminDoor(listener) as door, old, new:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        assert await reader.read() == b"", "nobody is there yet"
        writer.close()
        door.lead_to(old_at)
        kept = await asyncio.open_connection("127.0.0.1", port)
        for _ in range(2):
            kept[1].write(b"ping\n")
            assert await kept[0].readline() == b"old ping\n"
        door.lead_to(old_at)
        kept[1].write(b"still\n")
        assert await kept[0].readline() == b"old still\n", "the same target cuts nobody"
        door.lead_to(new_at)
        assert await kept[0].read() == b"", "who was with the old one must come again"
        kept[1].close()
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"ping\n")
        writer.write_eof()
        assert await reader.read() == b"new ping\n"
        writer.close()


async def test_a_tap_that_is_gone_is_a_closed_connection() -> None:
    server, at = await tap(b"x")
    server.close()
    listener = socket.create_server(("127.0.0.1", 0))
    async with AdminDoor(listener) as door:
        door.lead_to(at)
        reader, writer = await asyncio.open_connection(*listener.getsockname())
        assert await reader.read() == b""
        writer.close()
