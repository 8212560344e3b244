"""Do the graphs fit the spec, and each other? Pure: checked graphs in, problems out."""

from collections.abc import Iterator
from dataclasses import replace

from latentry_serving.bundle.compose import ENCODE_OUTPUTS
from latentry_serving.bundle.graph import Graph
from latentry_serving.bundle.spec import BundleSpec
from latentry_serving.bundle.tensors import FLOATING
from latentry_serving.contract.errors import InvalidInput, Problem
from latentry_serving.contract.manifest import Datatype, TensorSpec
from latentry_serving.contract.operations import Family

_RESERVED = {name for names in ENCODE_OUTPUTS.values() for name in names} | {
    "reconstruction", "reconstruction_error", "kl_per_dimension",
}  # fmt: skip


def check_fit(spec: BundleSpec, encoder: Graph, decoder: Graph | None, *, subject: str) -> Graph:
    """The encoder with the spec's units, ranges and declared dynamic dimensions on its inputs.

    Raises:
        InvalidInput: every way in which graphs, spec and family disagree.
    """
    problems = [*_input_problems(spec, encoder), *_encoder_output_problems(spec, encoder)]
    if decoder is not None:
        problems += _decoder_problems(spec, encoder, decoder)
    if problems:
        raise InvalidInput(subject, problems)
    declared = {tensor.name: tensor for tensor in spec.inputs or ()}
    return replace(encoder, inputs=tuple(declared.get(tensor.name, tensor) for tensor in encoder.inputs))


def _input_problems(spec: BundleSpec, encoder: Graph) -> Iterator[Problem]:
    if spec.family is not Family.ENCODER and len(encoder.inputs) != 1:
        yield Problem(
            "artifacts.encoder",
            f"has {len(encoder.inputs)} inputs ({_names(encoder.inputs)}); {spec.family} takes one",
            "join them into one tensor in the graph, or write family: Encoder",
        )
    for tensor in encoder.inputs:
        if tensor.name in _RESERVED:
            yield Problem(
                "artifacts.encoder", f"input {tensor.name!r} has the name of an output", "rename it in the export"
            )
    declared = {tensor.name: tensor for tensor in spec.inputs or ()}
    if spec.inputs is not None:
        yield from _declaration_problems(declared, encoder)
    for tensor in encoder.inputs:
        if -1 not in tensor.shape or (spec.inputs is not None and tensor.name not in declared):
            continue
        if spec.family is not Family.ENCODER:
            yield Problem(
                "artifacts.encoder",
                f"input {tensor.name!r} has dynamic dimensions beside the batch: {_shape(tensor)}",
                f"export it with fixed sizes: {spec.family} compares inputs with reconstructions of one shape",
            )
        elif spec.inputs is None:
            yield Problem(
                "artifacts.encoder",
                f"input {tensor.name!r} has dynamic dimensions beside the batch: {_shape(tensor)}",
                f"declare them under inputs: shape: {list(tensor.shape)}, or export with fixed sizes",
            )


def _declaration_problems(declared: dict[str, TensorSpec], encoder: Graph) -> Iterator[Problem]:
    given = {tensor.name: tensor for tensor in encoder.inputs}
    for name in declared.keys() - given.keys():
        yield Problem(
            "inputs", f"declares {name!r}, the encoder takes {_names(encoder.inputs)}", "use the graph's input names"
        )
    for name in given.keys() - declared.keys():
        yield Problem("inputs", f"leaves out the encoder's input {name!r}", "declare every input, or none")
    for name in sorted(given.keys() & declared.keys()):
        wanted, actual = declared[name], given[name]
        if wanted.datatype is not actual.datatype:
            yield Problem(
                f"inputs.{name}.datatype", f"is {wanted.datatype}, the graph takes {actual.datatype}", "correct one"
            )
        fits = len(wanted.shape) == len(actual.shape) and all(
            theirs in (-1, ours) for ours, theirs in zip(wanted.shape, actual.shape, strict=True)
        )
        if not fits:
            yield Problem(
                f"inputs.{name}.shape", f"is {_shape(wanted)}, the graph takes {_shape(actual)}", "correct one"
            )


def _encoder_output_problems(spec: BundleSpec, encoder: Graph) -> Iterator[Problem]:
    wanted = ENCODE_OUTPUTS[spec.family]
    if len(encoder.outputs) != len(wanted):
        yield Problem(
            "artifacts.encoder",
            f"has {len(encoder.outputs)} outputs ({', '.join(encoder.outputs)}); {spec.family} needs {len(wanted)}",
            f"return {' and '.join(wanted)}, each [batch, {spec.latent_dimension}]",
        )
        return
    for name, shape, datatype in zip(encoder.outputs, encoder.output_shapes, encoder.output_types, strict=True):
        yield from _type_problems("encoder", name, datatype)
        if shape is not None and not _could_be(shape, (spec.latent_dimension,)):
            yield Problem(
                "latentDimension",
                f"is {spec.latent_dimension}, the encoder's output {name!r} is {_dims(shape)}",
                f"correct latentDimension, or export an encoder that ends in [batch, {spec.latent_dimension}]",
            )
    if (
        spec.family is Family.VAE
        and _says_log_variance(encoder.outputs[0])
        and not _says_log_variance(encoder.outputs[1])
    ):
        yield Problem(
            "artifacts.encoder",
            f"returns {encoder.outputs[0]!r} before {encoder.outputs[1]!r}",
            "return the posterior mean first, then its log-variance",
        )


def _decoder_problems(spec: BundleSpec, encoder: Graph, decoder: Graph) -> Iterator[Problem]:
    field = "artifacts.decoder"
    if len(decoder.inputs) != 1 or len(decoder.outputs) != 1:
        yield Problem(
            field,
            f"has {len(decoder.inputs)} inputs and {len(decoder.outputs)} outputs",
            f"export a decoder of one input [batch, {spec.latent_dimension}] and one output",
        )
        return
    latent, latent_type = decoder.inputs[0], encoder.output_types[0] if encoder.output_types else None
    if not _could_be(latent.shape, (spec.latent_dimension,)):
        yield Problem(
            field,
            f"does not fit the encoder: it takes {_dims(latent.shape)}, latents are {_dims((spec.latent_dimension,))}",
            "give the decoder that was trained with this encoder",
        )
    if latent_type is not None and latent.datatype is not latent_type:
        yield Problem(
            field,
            f"does not fit the encoder: it takes {latent.datatype}, the encoder gives {latent_type}",
            "export both in the same precision",
        )
    yield from _type_problems("decoder", decoder.outputs[0], decoder.output_types[0])
    image, shape = encoder.inputs[0], decoder.output_shapes[0]
    if shape is not None and not _could_be(shape, image.shape):
        yield Problem(
            field,
            f"does not fit the encoder: it gives {_dims(shape)}, the encoder takes {_dims(image.shape)}",
            "give the decoder that was trained with this encoder",
        )


def _type_problems(role: str, name: str, datatype: Datatype | None) -> Iterator[Problem]:
    if datatype not in FLOATING:
        yield Problem(
            f"artifacts.{role}",
            f"output {name!r} has type {datatype or 'unknown'}",
            "return FP32, FP16 or FP64; cast inside the graph",
        )


def _could_be(shape: tuple[int, ...], wanted: tuple[int, ...]) -> bool:
    """True unless the stated shape rules the wanted one out; what stays open is settled by running the graph."""
    return len(shape) == len(wanted) and all(a in (-1, b) for a, b in zip(shape, wanted, strict=True))


def _says_log_variance(name: str) -> bool:
    flat = name.lower().replace("_", "").replace("-", "")
    return "logvar" in flat or "logsigma" in flat


def _names(tensors: tuple[TensorSpec, ...]) -> str:
    return ", ".join(tensor.name for tensor in tensors)


def _shape(tensor: TensorSpec) -> str:
    return _dims(tensor.shape)


def _dims(shape: tuple[int, ...]) -> str:
    return f"[{', '.join(['batch', *('?' if size < 0 else str(size) for size in shape)])}]"
