"""nginx and HAProxy as Debian has them, in front of a running Triton: one process each, on loopback."""

import contextlib
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from string import Template

from bench.load.payload import Protocol
from bench.servers.base import Endpoint, Serving, family_of, free_addresses, running, wait_ready

from latentry_serving.contract.errors import InvalidInput, Problem

NGINX, HAPROXY = "nginx", "HAProxy"
_CONFIGURATIONS = Path(__file__).parents[1] / "proxies"
_SYSTEM_PATH = "/usr/sbin:/usr/local/sbin:/sbin"
_PACKAGES = {"nginx": "nginx-light", "haproxy": "haproxy"}


def require_proxies() -> None:
    """
    Raises:
        InvalidInput: a proxy is not installed.
    """
    missing = [name for name in _PACKAGES if find_proxy(name) is None]
    if missing:
        command = f"run `apt-get install {' '.join(_PACKAGES[name] for name in missing)}`"
        raise InvalidInput("benchmark", [Problem(name, "is not installed", command) for name in missing])


def find_proxy(name: str) -> str | None:
    """The program's path; Debian keeps some where users' PATH does not look."""
    return shutil.which(name) or shutil.which(name, path=_SYSTEM_PATH)


@contextlib.asynccontextmanager
async def nginx(serving: Serving, triton: Endpoint) -> AsyncIterator[Endpoint]:
    """Runs nginx until the context ends."""
    async with _proxy(NGINX, "nginx.conf", ["-c"], serving, triton) as endpoint:
        yield endpoint


@contextlib.asynccontextmanager
async def haproxy(serving: Serving, triton: Endpoint) -> AsyncIterator[Endpoint]:
    """Runs HAProxy until the context ends."""
    async with _proxy(HAPROXY, "haproxy.cfg", ["-db", "-f"], serving, triton) as endpoint:
        yield endpoint


@contextlib.asynccontextmanager
async def _proxy(
    name: str, configuration: str, options: list[str], serving: Serving, triton: Endpoint
) -> AsyncIterator[Endpoint]:
    http, grpc = free_addresses(2)
    folder = serving.work_dir / name
    folder.mkdir()
    file = folder / configuration
    template = Template((_CONFIGURATIONS / configuration).read_text())
    file.write_text(
        template.substitute(
            folder=folder, http=http, grpc=grpc, upstream_http=triton.http, upstream_grpc=triton.grpc
        )
    )  # fmt: skip
    log = folder / "log"
    async with running([find_proxy(name.lower()), *options, file], log=log) as process:
        await wait_ready(name, process, http, serving.model, log)
        yield Endpoint(name, http, grpc, tuple(Protocol), family_of(process.pid))
