"""Where the control plane's programs are: ``KUBEBUILDER_ASSETS`` first, then what scripts/control-plane/build made."""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[3]
BUILD_SCRIPT = REPOSITORY / "scripts" / "control-plane" / "build"
REQUIRED = ("etcd", "kube-apiserver", "kube-controller-manager")
REMEDY = (
    "run scripts/control-plane/build once (Debian 12, 6 minutes), or set KUBEBUILDER_ASSETS to a folder with etcd, "
    "kube-apiserver and kube-controller-manager (docs/testing.md)"
)


class NoControlPlane(Exception):
    """No control plane is to be had here; the message names what is missing and the remedy."""


@dataclass(frozen=True)
class Assets:
    """The programs; kubectl only where one was found."""

    etcd: Path
    kube_apiserver: Path
    kube_controller_manager: Path
    kubectl: Path | None


def _in_folder(folder: Path, origin: str) -> Assets:
    missing = [name for name in REQUIRED if not os.access(folder / name, os.X_OK)]
    if missing:
        raise NoControlPlane(f"{origin} {folder} has no {', '.join(missing)}: {REMEDY}")
    beside = [folder, Path(sys.executable).parent]
    kubectl = next((found for at in beside if (found := shutil.which("kubectl", path=at))), shutil.which("kubectl"))
    etcd, api_server, controller_manager = (folder / name for name in REQUIRED)
    return Assets(etcd, api_server, controller_manager, Path(kubectl) if kubectl else None)


def cache_folder() -> Path:
    """Where the build script puts, or would put, its result."""
    printed = subprocess.run([BUILD_SCRIPT, "--directory"], check=True, capture_output=True, text=True)
    return Path(printed.stdout.strip())


def find_assets(environ: Mapping[str, str] = os.environ) -> Assets:
    """Find the programs, building them first where ``LATENTRY_BUILD_CONTROL_PLANE=1`` asks for it.

    Raises:
        NoControlPlane: there are none, or the build failed (its progress and errors went to stderr).
    """
    given = environ.get("KUBEBUILDER_ASSETS")
    if given:
        return _in_folder(Path(given), "KUBEBUILDER_ASSETS")
    if environ.get("LATENTRY_BUILD_CONTROL_PLANE") == "1":
        built = subprocess.run([BUILD_SCRIPT], stdout=subprocess.DEVNULL, check=False)
        if built.returncode != 0:
            raise NoControlPlane(
                f"{BUILD_SCRIPT.relative_to(REPOSITORY)} ended with status {built.returncode}: {REMEDY}"
            )
    return _in_folder(cache_folder(), "the cache")
