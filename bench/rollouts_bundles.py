"""Good and bad versions of the digits VAE as real bundles: changed graphs that pass `latentry bundle build`, and
bundles that were changed after it and sealed again with the right digests."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from bench.rollouts_graphs import Images, Networks, renamed
from numpy.typing import NDArray
from sklearn.datasets import load_digits

from latentry_serving.bundle.build import build_bundle
from latentry_serving.bundle.spec import parse_spec
from latentry_serving.bundle.store import file_entries, load_manifest
from latentry_serving.contract.manifest import MANIFEST_FILE, REPOSITORY_FOLDER

NAME = "digits-vae"
SPACE = "digits-vae-1"
OUTPUTS = {"encode": "posterior_mean", "score": "reconstruction_error"}
"""Operation -> the output that users read."""
DARK_SHARE = 0.1
"""Of the digits: those with most ink, which a bad version's own reference lacks."""


def digits(copies: int, seed: int) -> Images:
    """Real digits [1797 * copies, 1, 8, 8] in [0, 1], shuffled, each pixel dithered by up to half a grey level of 16.

    So no picture is like another: repeated ones are drift, and traffic of a few hundred pictures repeats them.
    """
    rng = np.random.Generator(np.random.PCG64(seed))
    levels = np.repeat(load_digits().images[:, None], copies, axis=0)[rng.permutation(1797 * copies)]
    images: Images = ((levels + rng.uniform(-0.5, 0.5, levels.shape)) / 16).clip(0, 1).astype(np.float32)
    return images


def ink(images: Images) -> NDArray[np.float32]:
    """Mean grey level of each image [n]."""
    return images.reshape(len(images), -1).mean(axis=1)


def dark_from(images: Images) -> float:
    """The ink above which an image counts as dark."""
    return float(np.quantile(ink(images), 1 - DARK_SHARE))


def networks_of(bundle: Path) -> Networks:
    """The graphs that a bundle's build exported."""
    folders = (bundle / REPOSITORY_FOLDER / f"{NAME}_{operation}" / "1" for operation in ("encode", "decode"))
    return Networks(*(onnx.load(folder / "model.onnx") for folder in folders))


def build(
    networks: Networks,
    reference: Images,
    folder: Path,
    version: str,
    *,
    space: str = SPACE,
    error: str = "MeanSquared",
) -> Path:
    """Builds a bundle with the product; its folder. 128 golden calls: enough to tell an alignable space of 8."""
    folder.mkdir(parents=True)
    onnx.save(networks.encoder, folder / "encoder.onnx")
    onnx.save(networks.decoder, folder / "decoder.onnx")
    np.save(folder / "reference.npy", reference)
    spec = {
        "apiVersion": "latentry.dev/v1alpha1",
        "kind": "BundleSpec",
        "name": NAME,
        "version": version,
        "family": "VAE",
        "latentDimension": networks.dimension,
        "embeddingSpace": space,
        "artifacts": {"encoder": {"path": "encoder.onnx"}, "decoder": {"path": "decoder.onnx"}},
        "reconstructionError": error,
        "reference": {"path": "reference.npy"},
        "profile": {"window": 100},
        "golden": {"samples": 128},
    }
    build_bundle(parse_spec(spec), base_dir=folder, out_dir=folder / "bundle", warn=lambda _: None)
    return folder / "bundle"


def sealed_again(bundle: Path, target: Path, change: Callable[[dict[str, Any], Path], None]) -> Path:
    """A copy of a bundle after ``change(manifest document, folder)``, with the digests of what it then holds."""
    shutil.copytree(bundle, target)
    document = json.loads((target / MANIFEST_FILE).read_text())
    change(document, target)
    (target / MANIFEST_FILE).write_text(json.dumps(document))
    manifest = load_manifest(target).model_copy(update={"files": file_entries(target)})
    (target / MANIFEST_FILE).write_bytes(manifest.to_bytes())
    return target


def rename_output(document: dict[str, Any], folder: Path, old: str = "posterior_mean", new: str = "mu") -> None:
    """``encode`` gives one output under another name: in graph, configuration, golden calls and contract."""
    contract = document["contract"]["operations"]["encode"]
    model = folder / REPOSITORY_FOLDER / contract["model"]
    graph = onnx.load(model / "1" / "model.onnx")
    onnx.save(renamed(graph, old, new), model / "1" / "model.onnx")
    config = model / "config.pbtxt"
    config.write_text(config.read_text().replace(f'"{old}"', f'"{new}"'))
    for path in sorted((folder / "golden" / "encode").rglob(f"{old}.npy")):
        path.rename(path.with_name(f"{new}.npy"))
    for tensor in contract["outputs"]:
        tensor["name"] = new if tensor["name"] == old else tensor["name"]
    document["version"] = f"{document['version']}-renamed"


def cut_graph(document: dict[str, Any], folder: Path) -> None:
    """A graph file that ends in the middle: Triton cannot load it."""
    graph = folder / REPOSITORY_FOLDER / document["contract"]["operations"]["encode"]["model"] / "1" / "model.onnx"
    graph.write_bytes(graph.read_bytes()[: graph.stat().st_size // 2])
    document["version"] = f"{document['version']}-cut"


def expected(bundle: Path, images: Images) -> dict[str, NDArray[np.float32]]:
    """What a bundle answers to each image: posterior means [n, d] of ``encode``, errors [n, 1] of ``score``."""
    found = {}
    for operation, output in OUTPUTS.items():
        path = bundle / REPOSITORY_FOLDER / f"{NAME}_{operation}" / "1" / "model.onnx"
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        parts = [images[start : start + 512] for start in range(0, len(images), 512)]
        found[operation] = np.concatenate([session.run([output], {session.get_inputs()[0].name: p})[0] for p in parts])
    return found
