"""Before anything is timed, every server must give the right answer to the very bytes that will be sent."""

import grpc  # type: ignore[import-untyped]
import httpx
import numpy as np
from bench.load.payload import GRPC_PREFIX_BYTES, Call, CheckedCall, Protocol, Tensors, grpc_answer, http_answer
from bench.servers.base import Endpoint

from latentry_serving.contract.errors import OperationFailed

_RELATIVE, _ABSOLUTE = 1e-4, 1e-5
"""float32 through another build of onnxruntime, and through the decimal digits of JSON."""
_ANY_SIZE = [("grpc.max_receive_message_length", -1)]


async def check_answer(endpoint: Endpoint, call: Call, expected: Tensors) -> CheckedCall:
    """Sends the call once and compares every output.

    Raises:
        OperationFailed: the call failed or an output is missing or wrong.
    """
    if call.protocol is Protocol.GRPC:
        actual, size = await _over_grpc(endpoint, call)
    else:
        actual, size = await _over_http(endpoint, call)
    for name, values in expected.items():
        if name not in actual or not np.allclose(actual[name], values, rtol=_RELATIVE, atol=_ABSOLUTE):
            raise OperationFailed(
                f"{endpoint.server} answers {call.protocol} wrongly: {name} is {actual.get(name)}, not {values}",
                remedy="it cannot be compared; check how it runs the graph",
            )
    return CheckedCall(call.protocol, call.path, call.headers, call.body, answer_bytes=size)


async def _over_http(endpoint: Endpoint, call: Call) -> tuple[Tensors, int]:
    async with httpx.AsyncClient(base_url=f"http://{endpoint.http}") as client:
        response = await client.post(call.path, content=call.body, headers=dict(call.headers))
    if response.status_code != httpx.codes.OK:
        raise _refused(endpoint, call, f"{response.status_code} {response.text[:300]}")
    return http_answer(response.content, response.headers), len(response.content)


async def _over_grpc(endpoint: Endpoint, call: Call) -> tuple[Tensors, int]:
    async with grpc.aio.insecure_channel(str(endpoint.grpc), options=_ANY_SIZE) as channel:
        try:
            answer: bytes = await channel.unary_unary(call.path)(call.body[GRPC_PREFIX_BYTES:])
        except grpc.aio.AioRpcError as error:
            raise _refused(endpoint, call, f"{error.code()} {error.details()}") from error
    return grpc_answer(answer), len(answer) + GRPC_PREFIX_BYTES


def _refused(endpoint: Endpoint, call: Call, answer: str) -> OperationFailed:
    return OperationFailed(f"{endpoint.server} refuses {call.protocol}: {answer}", remedy="see its log")
