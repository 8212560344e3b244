"""find_triton over made-up file trees: where it looks, in which order, and what it says when something is missing."""

from pathlib import Path

import pytest

from latentry_serving.contract.errors import OperationFailed
from latentry_serving.triton.install import SERVER_VARIABLE, WHEEL_REMEDY, Interpreter, find_triton


def _binary(path: Path, *, mode: int = 0o755) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("")
    path.chmod(mode)
    return path


def _interpreter(root: Path, **given: object) -> Interpreter:
    values: dict[str, object] = {
        "version": "3.12",
        "executable": root / "venv/bin/python",
        "site_packages": root / "site",
        "library_dirs": (root / "nowhere", root / "lib"),
        "system": "Linux",
        "machine": "x86_64",
        "glibc": (2, 36),
    }
    return Interpreter(**{**values, **given})  # type: ignore[arg-type]


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    """An installed nvidia-pytriton; returns its tritonserver folder."""
    root = tmp_path / "site/pytriton/tritonserver"
    _binary(root / "bin/tritonserver")
    _binary(root / "backends/python/libtriton_python.so")
    for version in ("3.11", "3.12"):
        _binary(root / "python_backend_stubs" / version / "triton_python_backend_stub")
    (tmp_path / "site/nvidia_pytriton.libs").mkdir()
    _binary(tmp_path / "lib/libpython3.12.so.1.0")
    return root


def test_the_wheel_of_the_interpreter(tmp_path: Path, wheel: Path) -> None:
    found = find_triton({"PATH": ""}, interpreter=_interpreter(tmp_path))
    assert found.binary == wheel / "bin/tritonserver"
    assert found.library_dirs == (tmp_path / "site/nvidia_pytriton.libs",)
    assert not found.has_onnxruntime
    assert found.python_backend is not None
    assert found.python_backend.stub == wheel / "python_backend_stubs/3.12/triton_python_backend_stub"
    assert found.python_backend.libpython_dir == tmp_path / "lib"
    assert found.python_backend.interpreter == tmp_path / "venv/bin/python"


def test_path_goes_before_the_wheel_and_the_setting_before_path(tmp_path: Path, wheel: Path) -> None:
    for name in ("a", "b"):
        _binary(tmp_path / name / "bin/tritonserver")
        (tmp_path / name / "backends/onnxruntime").mkdir(parents=True)
    environment = {"PATH": str(tmp_path / "a/bin")}
    interpreter = _interpreter(tmp_path)
    on_path = find_triton(environment, interpreter=interpreter)
    assert on_path.binary == tmp_path / "a/bin/tritonserver"
    assert on_path.has_onnxruntime
    assert on_path.library_dirs == ()
    environment[SERVER_VARIABLE] = str(tmp_path / "b/bin/tritonserver")
    assert find_triton(environment, interpreter=interpreter).binary == tmp_path / "b/bin/tritonserver"
    given = find_triton(environment, server=wheel / "bin/tritonserver", interpreter=interpreter)
    assert given.binary == wheel / "bin/tritonserver"


def test_an_image_needs_neither_stub_nor_libpython(tmp_path: Path) -> None:
    _binary(tmp_path / "opt/bin/tritonserver")
    (tmp_path / "opt/backends/onnxruntime").mkdir(parents=True)
    (tmp_path / "opt/lib").mkdir()
    interpreter = _interpreter(tmp_path, version="3.14", library_dirs=(), glibc=(2, 31))
    found = find_triton({"PATH": str(tmp_path / "opt/bin")}, interpreter=interpreter)
    assert found.has_onnxruntime
    assert found.library_dirs == (tmp_path / "opt/lib",)


def _failure(environment: dict[str, str], interpreter: Interpreter) -> str:
    with pytest.raises(OperationFailed) as caught:
        find_triton(environment, interpreter=interpreter)
    return str(caught.value)


def test_nothing_installed(tmp_path: Path) -> None:
    message = _failure({"PATH": str(tmp_path)}, _interpreter(tmp_path))
    assert "neither on PATH nor installed" in message
    assert WHEEL_REMEDY in message
    assert SERVER_VARIABLE in message


def test_a_setting_that_is_no_program(tmp_path: Path, wheel: Path) -> None:
    given = _binary(tmp_path / "text", mode=0o644)
    assert f"{given} is not an executable file" in _failure({SERVER_VARIABLE: str(given)}, _interpreter(tmp_path))


def test_a_binary_without_backends(tmp_path: Path) -> None:
    _binary(tmp_path / "x/bin/tritonserver")
    message = _failure({"PATH": str(tmp_path / "x/bin")}, _interpreter(tmp_path))
    assert f"{tmp_path}/x/backends does not exist" in message


def test_no_usable_backend(tmp_path: Path) -> None:
    _binary(tmp_path / "x/bin/tritonserver")
    (tmp_path / "x/backends/tensorrt").mkdir(parents=True)
    message = _failure({"PATH": str(tmp_path / "x/bin")}, _interpreter(tmp_path))
    assert "neither an onnxruntime nor a python backend" in message
    assert "nvcr.io/nvidia/tritonserver" in message


def test_no_stub_for_this_python(tmp_path: Path, wheel: Path) -> None:
    message = _failure({"PATH": ""}, _interpreter(tmp_path, version="3.14"))
    assert "no stub for Python 3.14 (it has: 3.11, 3.12)" in message


def test_no_shared_libpython(tmp_path: Path, wheel: Path) -> None:
    (tmp_path / "lib/libpython3.12.so.1.0").unlink()
    message = _failure({"PATH": ""}, _interpreter(tmp_path))
    assert "libpython3.12.so.1.0 not found" in message
    assert "apt-get install libpython3.12" in message


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"system": "Darwin"}, "Triton runs on Linux only, this is Darwin"),
        ({"machine": "riscv64"}, "this machine is riscv64"),
        ({"glibc": (2, 31)}, "needs glibc 2.35 or newer, this machine has glibc 2.31"),
        ({"glibc": ()}, "this machine has another C library"),
    ],
)
def test_the_wrong_platform(tmp_path: Path, wheel: Path, given: dict[str, object], said: str) -> None:
    assert said in _failure({"PATH": ""}, _interpreter(tmp_path, **given))
