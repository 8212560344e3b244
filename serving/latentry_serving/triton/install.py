"""Finds a Triton Inference Server on this machine, and what its python backend needs to run beside us."""

import os
import platform
import shutil
import sys
import sysconfig
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from latentry_serving.contract.errors import OperationFailed

SERVER_VARIABLE = "LATENTRY_TRITON_SERVER"
"""Path of the ``tritonserver`` binary; goes before everything else."""
WHEEL_REMEDY = "pip install --no-deps nvidia-pytriton==0.7.0"
WHEEL_LEAST_GLIBC = (2, 35)  # the wheel's tag: manylinux_2_35


@dataclass(frozen=True, slots=True, kw_only=True)
class Interpreter:
    """The Python whose packages the python backend's stub uses: ours."""

    version: str = field(default_factory=lambda: f"{sys.version_info.major}.{sys.version_info.minor}")
    executable: Path = field(default_factory=lambda: Path(sys.executable))
    site_packages: Path = field(default_factory=lambda: Path(sysconfig.get_path("platlib")))
    library_dirs: tuple[Path, ...] = field(default_factory=lambda: tuple(_library_dirs()))
    system: str = field(default_factory=platform.system)
    machine: str = field(default_factory=platform.machine)
    glibc: tuple[int, ...] = field(default_factory=lambda: _glibc())
    """(2, 36) for glibc 2.36; empty for another C library."""

    @property
    def libpython(self) -> str:
        """File name of the shared library the stub is linked to."""
        return f"libpython{self.version}.so.1.0"


@dataclass(frozen=True, slots=True, kw_only=True)
class PythonBackend:
    """What ONNX graphs need where Triton has no onnxruntime backend."""

    directory: Path
    """Holds ``libtriton_python.so`` and ``triton_python_backend_utils.py``."""
    stub: Path
    """``triton_python_backend_stub`` for the interpreter's version."""
    libpython_dir: Path
    interpreter: Path
    """The stub takes its packages from the environment of the first ``python3`` on PATH, this one's folder."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TritonInstall:
    """A Triton that can serve our bundles."""

    binary: Path
    backend_dir: Path
    """Triton's own backends."""
    library_dirs: tuple[Path, ...] = ()
    """To go on LD_LIBRARY_PATH."""
    python_backend: PythonBackend | None = None
    """None where onnxruntime runs natively."""

    @property
    def has_onnxruntime(self) -> bool:
        """Whether ONNX graphs run in Triton's own onnxruntime backend."""
        return self.python_backend is None


def find_triton(
    environment: Mapping[str, str] = os.environ, *, server: Path | None = None, interpreter: Interpreter | None = None
) -> TritonInstall:
    """Looks for Triton: the given binary or LATENTRY_TRITON_SERVER, then PATH, then the nvidia-pytriton wheel.

    Args:
        environment: where LATENTRY_TRITON_SERVER and PATH are read.
        server: the ``tritonserver`` binary, when the caller has a setting for it.
        interpreter: whose packages the python backend uses; the running one by default.

    Raises:
        OperationFailed: no Triton, or one that cannot run here; the message says what is missing and how to get it.
    """
    interpreter = interpreter or Interpreter()
    if interpreter.system != "Linux":
        raise OperationFailed(
            f"Triton runs on Linux only, this is {interpreter.system}",
            remedy="use a Linux machine, a virtual machine or WSL 2",
        )
    wheel = interpreter.site_packages / "pytriton" / "tritonserver"
    binary = _binary(environment, server, wheel)
    if binary.is_relative_to(wheel):
        _check_wheel_platform(interpreter)
    root = binary.parent.parent
    backend_dir = root / "backends"
    if not backend_dir.is_dir():
        raise OperationFailed(
            f"{binary} has no backends: {backend_dir} does not exist",
            remedy=f"set {SERVER_VARIABLE} to bin/tritonserver of a complete installation, or run `{WHEEL_REMEDY}`",
        )
    libraries = root.parents[1] / "nvidia_pytriton.libs" if binary.is_relative_to(wheel) else root / "lib"
    return TritonInstall(
        binary=binary,
        backend_dir=backend_dir,
        library_dirs=(libraries,) if libraries.is_dir() else (),
        python_backend=None if (backend_dir / "onnxruntime").is_dir() else _python_backend(backend_dir, interpreter),
    )


def _binary(environment: Mapping[str, str], server: Path | None, wheel: Path) -> Path:
    given = server or (Path(environment[SERVER_VARIABLE]) if environment.get(SERVER_VARIABLE) else None)
    if given is not None:
        if not given.is_file() or not os.access(given, os.X_OK):
            raise OperationFailed(
                f"{given} is not an executable file",
                remedy=f"set {SERVER_VARIABLE} to the tritonserver binary, or unset it to search PATH and the wheel",
            )
        return given.resolve()
    on_path = shutil.which("tritonserver", path=environment.get("PATH", ""))
    if on_path:
        return Path(on_path).resolve()
    binary = wheel / "bin" / "tritonserver"
    if not binary.is_file():
        raise OperationFailed(
            "no Triton Inference Server: tritonserver is neither on PATH nor installed as a wheel",
            remedy=f"run `{WHEEL_REMEDY}`, put tritonserver on PATH, or set {SERVER_VARIABLE} to the binary",
        )
    return binary


def _check_wheel_platform(interpreter: Interpreter) -> None:
    problem = None
    if interpreter.machine not in {"x86_64", "aarch64"}:
        problem = f"is built for x86_64 and aarch64, this machine is {interpreter.machine}"
    elif interpreter.glibc < WHEEL_LEAST_GLIBC:
        have = "another C library" if not interpreter.glibc else f"glibc {_dotted(interpreter.glibc)}"
        problem = f"needs glibc {_dotted(WHEEL_LEAST_GLIBC)} or newer, this machine has {have}"
    if problem:
        raise OperationFailed(
            f"the Triton of nvidia-pytriton {problem}",
            remedy="use Debian 12, Ubuntu 22.04 or newer, or run inside nvcr.io/nvidia/tritonserver",
        )


def _python_backend(backend_dir: Path, interpreter: Interpreter) -> PythonBackend:
    directory = backend_dir / "python"
    if not (directory / "libtriton_python.so").is_file():
        raise OperationFailed(
            f"the Triton in {backend_dir} has neither an onnxruntime nor a python backend",
            remedy=f"use the image nvcr.io/nvidia/tritonserver:<release>-py3, or run `{WHEEL_REMEDY}`",
        )
    stubs = backend_dir.parent / "python_backend_stubs"
    candidates = [stubs / interpreter.version / "triton_python_backend_stub", directory / "triton_python_backend_stub"]
    stub = next((path for path in candidates if path.is_file()), None)
    if stub is None:
        known = ", ".join(sorted(path.name for path in stubs.iterdir())) if stubs.is_dir() else "none"
        raise OperationFailed(
            f"Triton's python backend has no stub for Python {interpreter.version} (it has: {known})",
            remedy="run latentry with one of these Python versions",
        )
    libpython_dir = next((path for path in interpreter.library_dirs if (path / interpreter.libpython).exists()), None)
    if libpython_dir is None:
        raise OperationFailed(
            f"{interpreter.libpython} not found: Triton's python backend needs Python's shared library",
            remedy=f"on Debian and Ubuntu: apt-get install libpython{interpreter.version}; "
            "with pyenv: PYTHON_CONFIGURE_OPTS=--enable-shared pyenv install",
        )
    return PythonBackend(
        directory=directory, stub=stub, libpython_dir=libpython_dir, interpreter=interpreter.executable
    )


def _library_dirs() -> Iterable[Path]:
    """Where a shared libpython may lie, the interpreter's own prefix first."""
    multiarch = str(sysconfig.get_config_var("MULTIARCH") or "")
    configured = Path(str(sysconfig.get_config_var("LIBDIR") or "/usr/lib"))
    prefix = Path(sys.base_prefix)
    return dict.fromkeys(  # once each, in order
        [prefix / "lib", prefix / "lib" / multiarch, configured, configured / multiarch, Path("/usr/lib") / multiarch]
    )


def _glibc() -> tuple[int, ...]:
    name, version = platform.libc_ver()
    return tuple(int(part) for part in version.split(".")) if name == "glibc" else ()


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))
