"""Bundles on disk: staged and renamed into place, read back, and held to their digests. Standard library only."""

import hashlib
import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from latentry_serving.contract.errors import InvalidInput, OperationFailed, Problem
from latentry_serving.contract.manifest import MANIFEST_FILE, BundleManifest, FileEntry, parse_manifest

_CHUNK = 1 << 20
_FETCH_AGAIN = "fetch the bundle again, or rebuild it"


def file_digest(path: Path, read: Callable[[int], None] | None = None) -> str:
    """``sha256:<hex>`` of a file's content, read in pieces; ``read`` is told the size of each."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
            if read is not None:
                read(len(chunk))
    return f"sha256:{digest.hexdigest()}"


def list_files(folder: Path) -> list[str]:
    """Every file below a folder but the manifest, as sorted relative paths with forward slashes."""
    found = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file() or path.is_symlink())
    return sorted(path for path in found if path != MANIFEST_FILE)


def file_entries(folder: Path) -> tuple[FileEntry, ...]:
    """The manifest's list of files for what is in a folder now."""
    return tuple(
        FileEntry(path=path, sha256=file_digest(folder / path), bytes=(folder / path).stat().st_size)
        for path in list_files(folder)
    )


def load_manifest(bundle_dir: Path) -> BundleManifest:
    """Reads a bundle's manifest, without checking the files it lists.

    Raises:
        InvalidInput: no bundle there, or a manifest that cannot be read.
    """
    path = bundle_dir / MANIFEST_FILE
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InvalidInput.one(
            str(bundle_dir),
            path=MANIFEST_FILE,
            problem=f"cannot be read: {error.strerror}",
            remedy="give the folder of a bundle that latentry bundle build made",
        ) from error
    return parse_manifest(data, subject=str(path))


def verify_files(
    bundle_dir: Path, *, digest: str | None = None, read: Callable[[int], None] | None = None
) -> BundleManifest:
    """Checks that a folder is exactly the bundle its manifest describes.

    Args:
        bundle_dir: the bundle.
        digest: the promised ``sha256:<hex>`` of the manifest, or None to accept the manifest as it is.
        read: told of the bytes of listed files as they are read; what it raises ends the check.

    Raises:
        InvalidInput: another digest; files missing, changed, cut short or not listed. All of them are named.
    """
    manifest = load_manifest(bundle_dir)
    problems = []
    # The digest covers the bytes on disk: a manifest that parses alike but is written otherwise is another bundle.
    actual = file_digest(bundle_dir / MANIFEST_FILE)
    if digest is not None and actual != digest:
        problems.append(Problem("digest", f"is {actual}, expected {digest}", "fetch the bundle that was promised"))
    listed = {entry.path for entry in manifest.files}
    problems += [problem for entry in manifest.files if (problem := _file_problem(bundle_dir, entry, read))]
    problems += [
        Problem(path, "is not listed in the manifest", "remove it, or rebuild the bundle with it")
        for path in list_files(bundle_dir)
        if path not in listed
    ]
    if problems:
        raise InvalidInput(str(bundle_dir), problems)
    return manifest


def _file_problem(bundle_dir: Path, entry: FileEntry, read: Callable[[int], None] | None) -> Problem | None:
    relative = PurePosixPath(entry.path)
    if relative.is_absolute() or ".." in relative.parts:
        return Problem(entry.path, "leads out of the bundle", _FETCH_AGAIN)
    path = bundle_dir / relative
    if not path.is_file():
        return Problem(entry.path, "is missing", _FETCH_AGAIN)
    size = path.stat().st_size
    if size != entry.bytes:
        return Problem(entry.path, f"has {size} bytes, expected {entry.bytes}", _FETCH_AGAIN)
    if (actual := file_digest(path, read)) != entry.sha256:
        return Problem(entry.path, f"has digest {actual}, expected {entry.sha256}", _FETCH_AGAIN)
    return None


@contextmanager
def staged(out_dir: Path, *, force: bool) -> Iterator[Path]:
    """Gives an empty folder beside ``out_dir`` and renames it there when the block ends without an error.

    After an error nothing is left behind: no half-written bundle, no new parent folder, and the old bundle as it was.

    Raises:
        InvalidInput: ``out_dir`` is something other than a bundle, or a bundle and ``force`` is false.
        OperationFailed: the file system refuses.
    """
    _check_target(out_dir, force=force)
    target = out_dir.absolute()
    made = next((path for path in reversed(target.parents) if not path.exists()), None)
    staging = target.parent / f".{target.name}.{uuid.uuid4().hex[:8]}.building"
    sealed = False
    try:
        try:
            staging.mkdir(parents=True)
        except OSError as error:
            raise _refused(staging.parent, error) from error
        yield staging
        try:
            _swap(staging, target)
        except OSError as error:
            raise _refused(target, error) from error
        sealed = True
    finally:
        if not sealed:
            shutil.rmtree(made or staging, ignore_errors=True)


def _check_target(out_dir: Path, *, force: bool) -> None:
    if not os.path.lexists(out_dir) or (out_dir.is_dir() and not any(out_dir.iterdir())):
        return
    if not (out_dir / MANIFEST_FILE).is_file():
        problem, remedy = (
            "exists and is no bundle",
            "choose another folder; latentry does not delete what it did not make",
        )
    elif not force:
        problem, remedy = "holds a bundle already", "choose another folder, or replace it with --force (force=True)"
    else:
        return
    raise InvalidInput.one(str(out_dir), path=out_dir.name, problem=problem, remedy=remedy)


def _swap(staging: Path, target: Path) -> None:
    if not (target / MANIFEST_FILE).exists():
        staging.rename(target)
        return
    old = staging.with_suffix(".replaced")
    target.rename(old)
    try:
        staging.rename(target)
    except OSError:
        old.rename(target)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _refused(path: Path, error: OSError) -> OperationFailed:
    return OperationFailed(f"cannot write {path}: {error.strerror}", remedy="check permissions and free space")
