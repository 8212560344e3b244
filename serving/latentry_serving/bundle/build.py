"""Builds a bundle: read, check, compose, configure, record, seal. Everything happens in a folder beside the target.

The same inputs and tools give the same bytes: nothing of a clock, a path or a host gets in. Golden outputs are those
of ONNX Runtime on this CPU; another CPU model may round them differently, within the tolerances, and so seal another
digest.
"""

import tempfile
import warnings
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from latentry_serving.bundle.compose import Composer
from latentry_serving.bundle.fit import check_fit
from latentry_serving.bundle.normalise import strip, unify, write_graph
from latentry_serving.bundle.probe import Probe
from latentry_serving.bundle.profiling import ProfileData, Warn, add_profile, read_profile_data
from latentry_serving.bundle.progress import Progress, Steps
from latentry_serving.bundle.recording import Recorder, write_golden
from latentry_serving.bundle.reference import load_reference, match_inputs, spread
from latentry_serving.bundle.sources import (
    DECODER,
    ENCODER,
    Reader,
    Source,
    decoder_example,
    encoder_example,
    file_readers,
    module_reader,
)
from latentry_serving.bundle.spec import BundleSpec, Reference, family_problems
from latentry_serving.bundle.store import file_digest, file_entries, staged
from latentry_serving.bundle.tensors import Array
from latentry_serving.bundle.triton_config import model_config
from latentry_serving.contract.errors import InvalidInput, Problem
from latentry_serving.contract.manifest import (
    MANIFEST_FILE,
    REPOSITORY_FOLDER,
    BundleManifest,
    Contract,
    Golden,
    OperationContract,
    Provenance,
    ReconstructionError,
    digest_of,
)
from latentry_serving.contract.operations import Operation, model_name
from latentry_serving.triton.model_config import CONFIG_FILE, MODEL_FILE, MODEL_VERSION

if TYPE_CHECKING:
    from torch.nn import Module

_PARITY_ROWS = 64
"""Enough real inputs to meet every branch of a network, few enough to take seconds."""


def build_bundle(
    spec: BundleSpec,
    *,
    base_dir: Path,
    out_dir: Path,
    force: bool = False,
    progress: Progress | None = None,
    warn: Warn = warnings.warn,
) -> BundleManifest:
    """Builds a bundle from model files.

    Args:
        spec: what to build.
        base_dir: folder that the spec's paths are relative to.
        out_dir: where the bundle goes; must not exist, or be empty, or with ``force`` be a bundle.
        force: replace a bundle that is there.
        progress: told of every step as it begins.
        warn: told, a sentence each, what is worth knowing about the bundle that was built.

    Returns:
        The manifest that was written.

    Raises:
        InvalidInput: anything wrong with spec, artifacts, reference data or target; nothing is written then.
        OperationFailed: the target cannot be written.
    """
    subject = _subject(spec)
    _check(spec, subject, encoder=spec.artifacts.encoder is not None, decoder=spec.artifacts.decoder is not None)
    readers = file_readers(spec, base_dir, subject=subject)
    return _build(spec, readers, base_dir=base_dir, out_dir=out_dir, force=force, progress=progress, warn=warn)


def build_from_modules(
    spec: BundleSpec,
    *,
    encoder: "Module",
    decoder: "Module | None" = None,
    base_dir: Path,
    out_dir: Path,
    force: bool = False,
    progress: Progress | None = None,
    warn: Warn = warnings.warn,
) -> BundleManifest:
    """Builds a bundle from torch modules; otherwise as ``build_bundle``. The spec's ``artifacts`` stay empty.

    Args:
        encoder: input(s) [batch, ...] -> [batch, d]; for a VAE (mean, log-variance). Input names are those of its
            ``forward``.
        decoder: latent [batch, d] -> reconstruction.
    """
    subject = _subject(spec)
    _check(spec, subject, encoder=True, decoder=decoder is not None)
    readers = {ENCODER: module_reader(encoder, ENCODER, inputs=spec.inputs, subject=subject)}
    if decoder is not None:
        readers[DECODER] = module_reader(decoder, DECODER, inputs=None, subject=subject)
    return _build(spec, readers, base_dir=base_dir, out_dir=out_dir, force=force, progress=progress, warn=warn)


def _subject(spec: BundleSpec) -> str:
    return f"bundle {spec.name} {spec.version}"


def _check(spec: BundleSpec, subject: str, *, encoder: bool, decoder: bool) -> None:
    problems = family_problems(spec, decoder=decoder)
    if not encoder:
        problems.append(Problem("artifacts.encoder", "is missing", "give the encoder's file"))
    if problems:
        raise InvalidInput(subject, problems)


def _build(
    spec: BundleSpec,
    readers: dict[str, Reader],
    *,
    base_dir: Path,
    out_dir: Path,
    force: bool,
    progress: Progress | None,
    warn: Warn,
) -> BundleManifest:
    operations = spec.operations(decoder=DECODER in readers)
    steps = Steps(len(readers) + len(operations) + 4, progress)
    assert spec.reference is not None  # noqa: S101 - _check has refused a spec without
    with staged(out_dir, force=force) as staging, tempfile.TemporaryDirectory(prefix="latentry-build-") as work:
        inputs = _read(spec, spec.reference, readers, base_dir, steps)
        data = read_profile_data(
            spec, inputs.encoder.graph.inputs, inputs.reference, inputs.reference_digest, base_dir, warn
        )
        steps.begin("running the graphs on reference inputs")
        _probe(spec, inputs, Path(work))
        contracts, samples = _write_operations(spec, inputs, operations, staging, steps)
        contract = _contract(spec, contracts, decoder=DECODER in readers)
        steps.begin("no profile" if data is None else "fitting the profile")
        if data is not None:
            add_profile(staging, contract, data, steps, warn)
        steps.begin("sealing")
        manifest = BundleManifest(
            name=spec.name,
            version=spec.version,
            contract=contract,
            golden=Golden(
                samples=samples,
                tolerances={operation: spec.tolerance(operation) for operation in operations},
            ),
            files=file_entries(staging),
            provenance=_provenance(spec, inputs, data),
        )
        (staging / MANIFEST_FILE).write_bytes(manifest.to_bytes())
    return manifest


@dataclass(frozen=True, slots=True)
class _Inputs:
    """Everything the build read, checked and made to fit together. Reference arrays are [rows, ...] by input name."""

    encoder: Source
    decoder: Source | None
    reference: dict[str, Array]
    reference_digest: str

    @property
    def sources(self) -> list[Source]:
        return [source for source in (self.encoder, self.decoder) if source is not None]


def _read(spec: BundleSpec, reference: Reference, readers: dict[str, Reader], base_dir: Path, steps: Steps) -> _Inputs:
    subject = _subject(spec)
    steps.begin("reading reference data")
    path = base_dir / reference.path
    arrays = load_reference(path, subject=subject)
    steps.begin("reading the encoder")
    encoder, decoder = readers[ENCODER](encoder_example(arrays, spec.inputs)), None
    if DECODER in readers:
        steps.begin("reading the decoder")
        decoder = readers[DECODER](decoder_example(spec))
    fitted = check_fit(spec, encoder.graph, decoder.graph if decoder else None, subject=subject)
    graphs = unify([fitted, *([decoder.graph] if decoder else [])], subject=subject)
    matched = match_inputs(
        arrays,
        fitted.inputs,
        samples=spec.golden.fewest,
        reduction=spec.effective_reconstruction_error(decoder=decoder is not None),
        subject=subject,
    )
    return _Inputs(
        encoder=replace(encoder, graph=graphs[0]),
        decoder=replace(decoder, graph=graphs[1]) if decoder else None,
        reference=matched,
        reference_digest=file_digest(path),
    )


def _probe(spec: BundleSpec, inputs: _Inputs, work: Path) -> None:
    """Runs encoder and decoder on real inputs: shapes, finite and repeatable results, parity with torch."""
    subject = _subject(spec)
    rows = spread(inputs.reference, min(_PARITY_ROWS, len(next(iter(inputs.reference.values())))))
    for source in inputs.sources:
        folder = work / source.graph.role
        folder.mkdir()
        write_graph(strip(source.graph.model), folder / MODEL_FILE)
        probe = Probe(source.graph, folder / MODEL_FILE, subject=subject)
        encoding = source is inputs.encoder
        shape = (spec.latent_dimension,) if encoding else next(iter(inputs.reference.values())).shape[1:]
        outputs = probe.check(rows, shape, tolerance=spec.parity)
        if source.torch is not None:
            probe.check_parity(outputs, source.torch.run(list(rows.values())), tolerance=spec.parity)
        if not encoding:
            _check_probabilities(spec, outputs[0])
        elif inputs.decoder is not None:
            rows = {inputs.decoder.graph.inputs[0].name: outputs[0]}


def _check_probabilities(spec: BundleSpec, reconstruction: Array) -> None:
    low, high = float(reconstruction.min()), float(reconstruction.max())
    if spec.reconstruction_error is ReconstructionError.BINARY_CROSS_ENTROPY and not 0 <= low <= high <= 1:
        raise InvalidInput.one(
            _subject(spec),
            path="artifacts.decoder",
            problem=f"gives values in [{low:g}, {high:g}], BinaryCrossEntropy needs [0, 1]",
            remedy="export it with its final sigmoid, or write reconstructionError: MeanSquared",
        )


def _write_operations(
    spec: BundleSpec, inputs: _Inputs, operations: tuple[Operation, ...], staging: Path, steps: Steps
) -> tuple[dict[Operation, OperationContract], int]:
    """Writes graph, configuration and golden call of each operation; contracts, and the rows that were recorded.

    Encode comes first, decode needs its latents.
    """
    composer = Composer(spec, inputs.encoder.graph, inputs.decoder.graph if inputs.decoder else None)
    few = Recorder(spread(inputs.reference, spec.golden.fewest), subject=_subject(spec))
    contracts: dict[Operation, OperationContract] = {}
    for operation in operations:
        steps.begin(f"composing and recording {operation}")
        composed = composer.compose(operation)
        contract = OperationContract(
            model=model_name(spec.name, operation), inputs=composed.inputs, outputs=composed.outputs
        )
        folder = staging / REPOSITORY_FOLDER / contract.model
        (folder / MODEL_VERSION).mkdir(parents=True)
        graph = folder / MODEL_VERSION / MODEL_FILE
        write_graph(strip(composed.model), graph)
        given, _ = few.record(operation, contract, graph)
        config = model_config(contract, spec.runtime, {name: array.shape[1:] for name, array in given.items()})
        (folder / CONFIG_FILE).write_text(config.to_pbtxt(), encoding="utf-8")
        contracts[operation] = contract
    return contracts, write_golden(staging, spec.golden, inputs.reference, few)


def _contract(spec: BundleSpec, operations: dict[Operation, OperationContract], *, decoder: bool) -> Contract:
    return Contract(
        family=spec.family,
        latent_dimension=spec.latent_dimension,
        embedding_space=spec.space,
        normalisation=spec.normalisation,
        prior=spec.effective_prior,
        reconstruction_error=spec.effective_reconstruction_error(decoder=decoder),
        preprocessing=spec.preprocessing,
        operations=operations,
    )


def _provenance(spec: BundleSpec, inputs: _Inputs, data: ProfileData | None) -> Provenance:
    sources = {"spec": digest_of(spec.model_dump_json(by_alias=True).encode()), "reference": inputs.reference_digest}
    for source in inputs.sources:
        sources |= source.digests
    if data is not None:
        sources |= {f"profile/{role}": digest for role, digest in data.digests.items()}
    exported = any(source.torch is not None for source in inputs.sources)
    tools = ("latentry", "numpy", "onnx", "onnxruntime", *(("onnxscript", "torch") if exported else ()))
    tools += ("scipy",) if data is not None else ()
    return Provenance(
        sources=sources,
        git_commit=spec.provenance.git_commit,
        mlflow_run=spec.provenance.mlflow_run,
        tools={tool: metadata.version(tool) for tool in tools},
    )
