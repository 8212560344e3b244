"""Bodies of answers that are not trusted to end."""

import aiohttp


class TooLarge(Exception):
    """More bytes than were allowed; nothing of them is kept."""


async def read_bounded(answer: aiohttp.ClientResponse, most_bytes: int) -> bytes:
    """The whole body.

    Raises:
        TooLarge: it has more bytes than that.
        aiohttp.ClientError: the connection broke.
    """
    body = bytearray()
    async for chunk in answer.content.iter_any():
        body += chunk
        if len(body) > most_bytes:
            raise TooLarge
    return bytes(body)
