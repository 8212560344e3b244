"""The real Triton through Latentry's own runner, called directly: what everything else is compared with."""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from bench.load.payload import Protocol
from bench.servers.base import Endpoint, Serving, family_of

from latentry_serving.contract.manifest import BundleManifest
from latentry_serving.triton.install import find_triton
from latentry_serving.triton.local_repository import write_local_repository
from latentry_serving.triton.supervisor import TritonServer


@contextlib.asynccontextmanager
async def triton(serving: Serving, bundle_dir: Path, manifest: BundleManifest) -> AsyncIterator[Endpoint]:
    """Runs Triton until the context ends.

    Raises:
        OperationFailed: no Triton on this machine, or it does not start.
    """
    install = find_triton()
    repository = serving.work_dir / "repository"
    write_local_repository(bundle_dir, manifest, repository, install)
    async with TritonServer(install, repository, serving.work_dir / "triton") as server:
        pid = server.state.pid
        yield Endpoint(
            "Triton", server.addresses.http, server.addresses.grpc, tuple(Protocol), family_of(pid) if pid else ()
        )
