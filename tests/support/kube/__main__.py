"""The stand-in as a process: ``python -m kube KUBECONFIG``, until it gets SIGINT or SIGTERM."""

import asyncio
import sys
from contextlib import suppress
from pathlib import Path

import yaml

from kube.api import Api
from kube.stand_in import StandIn


async def _run(kubeconfig: Path) -> None:
    config = yaml.safe_load(kubeconfig.read_text())
    cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
    async with Api(cluster["server"], Path(cluster["certificate-authority"]), user["token"]) as api:
        await StandIn(api).run()


if len(sys.argv) != 2:
    sys.exit("usage: python -m kube KUBECONFIG")
with suppress(KeyboardInterrupt):
    asyncio.run(_run(Path(sys.argv[1])))
