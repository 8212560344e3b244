"""The bundle a tap stands for: its manifest is read before anything starts, its files are checked while calls flow."""

import asyncio
import threading
from pathlib import Path

from latentry_serving.bundle.store import file_digest, load_manifest, verify_files
from latentry_serving.contract.errors import InvalidInput, OperationFailed
from latentry_serving.contract.manifest import MANIFEST_FILE, BundleManifest
from latentry_serving.contract.metrics import BundleState
from latentry_serving.contract.tap_config import TapConfig

_APPEARS_SECONDS = 15.0
"""A bundle that comes as an image of its own (KServe's modelcar) may be mounted a moment after the tap started."""
_LOOK_SECONDS = 0.1
_MEGABYTE = 1_000_000
_SHOWN_PROBLEMS = 3


class Stopped(Exception):
    """The tap stops; whatever took long is given up."""


class BundleSource:
    """An unpacked bundle. ``check`` runs in a thread of its own; the rest may be read from any thread."""

    def __init__(self, directory: Path, promised: str | None) -> None:
        """Reads the manifest, and nothing else yet.

        Args:
            directory: the bundle's folder.
            promised: ``sha256:<hex>`` of the manifest, or None to take the bundle as it is.

        Raises:
            InvalidInput: there is no manifest, or it cannot be read.
        """
        self.directory = directory
        self.promised = promised
        self.manifest: BundleManifest = load_manifest(directory)
        self.digest = file_digest(directory / MANIFEST_FILE)
        self.state = BundleState.CHECKING
        self.problems: tuple[str, ...] = ()
        self._bytes_read = 0
        if promised not in (None, self.digest):
            self._refuse(f"digest is {self.digest}, promised was {promised}")

    def applied_to(self, config: TapConfig) -> TapConfig:
        """The configuration with what the manifest knows: what it is, which digest it has, and its operations."""
        return config.model_copy(
            update={
                "version": self.manifest.version,
                "digest": self.digest,
                "operations": self.manifest.operations_by_model,
                "embedding_space": self.manifest.contract.embedding_space,
            }
        )

    def check(self, stop: threading.Event) -> None:
        """Compares every file with its digest. Hashing lets other threads run.

        Raises:
            Stopped: ``stop`` was set meanwhile.
        """
        if self.state is not BundleState.CHECKING:
            return

        def read(size: int) -> None:
            if stop.is_set():
                raise Stopped
            self._bytes_read += size

        try:
            verify_files(self.directory, digest=self.promised, read=read)
        except InvalidInput as error:
            self._refuse(*(f"{p.path} {p.problem}" for p in error.problems))
        except OSError as error:
            self._refuse(f"{error.filename} cannot be read: {error.strerror}")
        else:
            self.state = BundleState.VERIFIED

    def reasons(self) -> list[str]:
        """Why not to serve from it; empty once it is verified."""
        if self.state is BundleState.VERIFIED:
            return []
        if self.state is BundleState.CHECKING:
            done, total = self._bytes_read / _MEGABYTE, self.manifest.total_bytes / _MEGABYTE
            return [f"checking the bundle's files: {done:.0f} of {total:.0f} MB"]
        more = len(self.problems) - _SHOWN_PROBLEMS
        shown = "; ".join(self.problems[:_SHOWN_PROBLEMS]) + (f"; and {more} more" if more > 0 else "")
        return [f"the bundle in {self.directory} is refused: {shown}"]

    def _refuse(self, *problems: str) -> None:
        self.problems = problems
        self.state = BundleState.REFUSED


def open_bundle(config: TapConfig) -> BundleSource | None:
    """The bundle a configuration names, or None when it names none.

    Raises:
        InvalidInput: there is no manifest, or it cannot be read.
    """
    return None if config.bundle_dir is None else BundleSource(Path(config.bundle_dir), config.digest)


async def bundle_appears(config: TapConfig, *, seconds: float = _APPEARS_SECONDS) -> None:
    """Returns once the manifest of the bundle, if there is to be one, lies where it should.

    Raises:
        OperationFailed: it does not, after so long.
    """
    if config.bundle_dir is None:
        return
    manifest = Path(config.bundle_dir) / MANIFEST_FILE
    try:
        async with asyncio.timeout(seconds):
            while not manifest.is_file():  # noqa: ASYNC110 - a mount tells nobody that it appeared
                await asyncio.sleep(_LOOK_SECONDS)
    except TimeoutError as error:
        raise OperationFailed(
            f"no bundle in {config.bundle_dir} after {seconds:g} s: {MANIFEST_FILE} is missing",
            remedy="mount the bundle there, or correct bundleDir; the tap can be started again",
        ) from error
