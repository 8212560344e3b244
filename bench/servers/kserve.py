"""KServe's Python ModelServer: the graph in a custom Model. It joins no requests into batches."""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from bench.load.payload import Protocol
from bench.servers.base import Endpoint, Serving, family_of, free_addresses, running, wait_ready

KSERVE = "KServe"
_MAIN = Path(__file__).with_name("hosted") / "kserve_main.py"


@contextlib.asynccontextmanager
async def kserve(serving: Serving, venv: Path) -> AsyncIterator[Endpoint]:
    """Runs ModelServer until the context ends."""
    http, grpc = free_addresses(2)
    command = [
        venv / "bin" / "python", _MAIN, f"--model_name={serving.model}", f"--graph={serving.graph}",
        f"--http_port={http.port}", f"--grpc_port={grpc.port}",
    ]  # fmt: skip
    log = serving.work_dir / "kserve.log"
    async with running(command, log=log) as process:
        await wait_ready(KSERVE, process, http, serving.model, log)
        yield Endpoint(KSERVE, http, grpc, tuple(Protocol), family_of(process.pid))
