"""The bundle of a LatentModel on this machine: found through its file:// address and held to its digests."""

from pathlib import Path
from urllib.parse import unquote

from latentry_operator.api.latentmodel import LatentModel
from latentry_serving.bundle.store import verify_files
from latentry_serving.contract.errors import InvalidInput, Problem
from latentry_serving.contract.manifest import MANIFEST_FILE, BundleManifest

_SCHEME = "file://"


def local_bundle(model: LatentModel) -> tuple[Path, BundleManifest]:
    """The bundle's folder and its manifest, every file checked against its SHA-256.

    Raises:
        InvalidInput: the address is not file://, nothing lies there, or it is not the promised bundle.
    """
    subject, uri = f"LatentModel {model.metadata.name}", model.spec.bundle.uri
    if not uri.startswith(_SCHEME):
        raise InvalidInput.one(
            subject,
            path="spec.bundle.uri",
            problem=f"{uri} cannot be served on one machine",
            remedy="fetch the bundle and write file:// and its folder",
        )
    folder = Path(unquote(uri.removeprefix(_SCHEME)))
    if not (folder / MANIFEST_FILE).is_file():
        raise InvalidInput.one(
            subject,
            path="spec.bundle.uri",
            problem=f"no bundle in {folder.absolute()}",
            remedy=f"build one with `latentry bundle build SPEC.yaml -o {folder}`, or correct the address",
        )
    try:
        return folder, verify_files(folder, digest=model.spec.bundle.digest)
    except InvalidInput as error:
        problems = [Problem(f"spec.bundle: {p.path}", p.problem, p.remedy, p.line) for p in error.problems]
        raise InvalidInput(subject, problems) from error
