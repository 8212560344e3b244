"""MLServer: the graph in a custom runtime, adaptive batching with the same limits as Triton's dynamic batching."""

import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path

from bench.load.payload import Protocol
from bench.servers.base import Endpoint, Serving, family_of, free_addresses, running, wait_ready

MLSERVER = "MLServer"
_RUNTIME = Path(__file__).with_name("hosted") / "mlserver_runtime.py"


@contextlib.asynccontextmanager
async def mlserver(serving: Serving, venv: Path) -> AsyncIterator[Endpoint]:
    """Runs MLServer until the context ends. It has no binary HTTP extension.

    The graph runs in the server's own process (``parallel_workers`` 0): on two cores the default, one worker process
    beside it, was a third slower. ``debug`` off: no line per request in the log.
    """
    folder = serving.work_dir / "mlserver"
    (folder / serving.model).mkdir(parents=True)
    http, grpc, metrics = free_addresses(3)
    settings = {
        "host": http.host, "http_port": http.port, "grpc_port": grpc.port, "metrics_port": metrics.port,
        "debug": False, "parallel_workers": 0,
    }  # fmt: skip
    model = {
        "name": serving.model,
        "implementation": "mlserver_runtime.OnnxRuntime",
        "parameters": {"uri": str(serving.graph)},
        "max_batch_size": serving.max_batch_size,
        "max_batch_time": serving.max_queue_delay_us / 1e6,
    }
    (folder / "settings.json").write_text(json.dumps(settings))
    (folder / serving.model / "model-settings.json").write_text(json.dumps(model))
    log = serving.work_dir / "mlserver.log"
    command = [venv / "bin" / "mlserver", "start", folder]
    async with running(command, log=log, env={"PYTHONPATH": str(_RUNTIME.parent)}, cwd=folder) as process:
        await wait_ready(MLSERVER, process, http, serving.model, log)
        yield Endpoint(MLSERVER, http, grpc, (Protocol.JSON, Protocol.GRPC), family_of(process.pid))
