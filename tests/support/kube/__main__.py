"""The stand-in as a process, until SIGINT or SIGTERM: ``python -m kube KUBECONFIG``. Why it ended is on stderr."""

import asyncio
import signal
import sys
import traceback
from pathlib import Path

import yaml

from kube.api import Api
from kube.stand_in import StandIn


def _say(text: str) -> None:
    print(f"stand-in: {text}", file=sys.stderr, flush=True)


async def _run(kubeconfig: Path) -> str:
    """Act until a signal comes, and give its name."""
    config = yaml.safe_load(kubeconfig.read_text())
    cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
    loop = asyncio.get_running_loop()
    signalled: asyncio.Future[str] = loop.create_future()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, lambda name=number.name: signalled.done() or signalled.set_result(name))
    async with Api(cluster["server"], Path(cluster["certificate-authority"]), user["token"]) as api:
        acting = asyncio.create_task(StandIn(api).run())
        _say(f"acting on {cluster['server']}")
        await asyncio.wait([acting, signalled], return_when=asyncio.FIRST_COMPLETED)
        if acting.done():
            await acting  # it never ends but by an error
        acting.cancel()
        await asyncio.wait([acting])
        return await signalled


def main(arguments: list[str]) -> int:
    """Exit code 0 after a signal, 1 after an error, 2 for wrong arguments."""
    if len(arguments) != 1:
        _say("usage: python -m kube KUBECONFIG")
        return 2
    try:
        name = asyncio.run(_run(Path(arguments[0])))
    except Exception:  # noqa: BLE001 - whatever it is, it must not end in silence
        _say(f"died:\n{traceback.format_exc()}")
        return 1
    _say(f"stopped by {name}")
    return 0


sys.exit(main(sys.argv[1:]))
