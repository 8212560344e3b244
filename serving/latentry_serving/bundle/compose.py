"""Composes the operations of a bundle, each one fused ONNX graph, from the model's encoder and decoder. Pure.

Tensor names are the contract's; the model's own input keeps its name. Everything inside is prefixed ``encoder/`` or
``decoder/`` and joined through Identity nodes, which every runtime removes when it optimises.
"""

from dataclasses import dataclass

import numpy as np
from onnx import GraphProto, ModelProto, TensorProto, ValueInfoProto, helper, numpy_helper

from latentry_serving.bundle.graph import Graph
from latentry_serving.bundle.names import prefixed
from latentry_serving.bundle.spec import BundleSpec
from latentry_serving.bundle.tensors import Array, element_type_of
from latentry_serving.contract.manifest import Datatype, Normalisation, NormalPrior, ReconstructionError, TensorSpec
from latentry_serving.contract.operations import (
    EMBEDDING,
    KL_PER_DIMENSION,
    LATENT,
    NOISE,
    POSTERIOR_LOG_VARIANCE,
    POSTERIOR_MEAN,
    RECONSTRUCTION,
    RECONSTRUCTION_ERROR,
    SAMPLE,
    Family,
    Operation,
)

BATCH = "batch"
PRODUCER = "latentry"
NORM_FLOOR = 1e-12
"""Least norm an embedding is divided by: torch.nn.functional.normalize's default."""
PROBABILITY_FLOOR = 1e-7
"""Reconstructions are clipped to [floor, 1 - floor] before their logarithm; 1 - floor is below 1 in float32."""

ENCODE_OUTPUTS = {
    Family.ENCODER: (EMBEDDING,),
    Family.AUTOENCODER: (LATENT,),
    Family.VAE: (POSTERIOR_MEAN, POSTERIOR_LOG_VARIANCE),
}


class _Builder:
    """Collects the nodes of one graph around copies of the model's graphs."""

    def __init__(self) -> None:
        self.graph = GraphProto()
        self._count = 0

    def embed(self, source: Graph, inputs: dict[str, str]) -> list[str]:
        """Adds a copy of ``source`` fed from the named values; returns the names of its outputs."""
        prefix = f"{source.role}/"
        copy = prefixed(source.model.graph, prefix)
        for name, value in inputs.items():
            self.graph.node.append(helper.make_node("Identity", [value], [prefix + name], name=f"{prefix}{name}/feed"))
        self.graph.node.extend(copy.node)
        self.graph.initializer.extend(copy.initializer)
        self.graph.sparse_initializer.extend(copy.sparse_initializer)
        return [prefix + name for name in source.outputs]

    def add(self, operator: str, *inputs: str, output: str = "", **attributes: int) -> str:
        """Adds one node; returns the name of its output."""
        self._count += 1
        name = f"latentry/{self._count}_{operator}"
        output = output or name
        self.graph.node.append(helper.make_node(operator, list(inputs), [output], name=name, **attributes))  # type: ignore[arg-type]
        return output

    def constant(self, value: float | list[int], element_type: int = TensorProto.INT64) -> str:
        self._count += 1
        name = f"latentry/{self._count}_constant"
        array: Array = np.asarray(value, dtype=helper.tensor_dtype_to_np_dtype(element_type))
        self.graph.initializer.append(numpy_helper.from_array(array, name))
        return name

    def cast(self, value: str, given: Datatype, wanted: int) -> str:
        return value if element_type_of(given) == wanted else self.add("Cast", value, to=wanted)


@dataclass(frozen=True, slots=True)
class Composed:
    """One operation's graph and its tensors, in the graph's order."""

    model: ModelProto
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


class Composer:
    """Makes each operation's graph from a checked encoder and, where there is one, a decoder that fits it."""

    def __init__(self, spec: BundleSpec, encoder: Graph, decoder: Graph | None) -> None:
        self._spec = spec
        self._encoder = encoder
        self._decoder = decoder

    def compose(self, operation: Operation) -> Composed:
        """The operation's graph with a dynamic batch dimension."""
        builder = _Builder()
        match operation:
            case Operation.ENCODE:
                inputs, outputs = self._encode(builder)
            case Operation.DECODE:
                inputs, outputs = self._decode(builder)
            case Operation.RECONSTRUCT:
                inputs, outputs = self._reconstruct(builder)
            case Operation.SCORE:
                inputs, outputs = self._score(builder)
            case Operation.SAMPLE:
                inputs, outputs = self._sample(builder)
        builder.graph.name = str(operation)
        builder.graph.input.extend(_value_info(tensor) for tensor in inputs)
        builder.graph.output.extend(_value_info(tensor) for tensor in outputs)
        return Composed(self._model(builder.graph), inputs, tuple(outputs))

    def _encode(self, builder: _Builder) -> tuple[tuple[TensorSpec, ...], list[TensorSpec]]:
        values = builder.embed(self._encoder, {tensor.name: tensor.name for tensor in self._encoder.inputs})
        names = ENCODE_OUTPUTS[self._spec.family]
        if self._spec.normalisation is Normalisation.L2:
            values = [_l2_normalised(builder, values[0], element_type_of(self._latent_type(0)))]
        for value, name in zip(values, names, strict=True):
            builder.add("Identity", value, output=name)
        return self._encoder.inputs, [self._latent(name, i) for i, name in enumerate(names)]

    def _decode(self, builder: _Builder) -> tuple[tuple[TensorSpec, ...], list[TensorSpec]]:
        decoder = self._require_decoder()
        (value,) = builder.embed(decoder, {decoder.inputs[0].name: LATENT})
        builder.add("Identity", value, output=RECONSTRUCTION)
        return (self._latent(LATENT),), [self._image(RECONSTRUCTION)]

    def _reconstruct(self, builder: _Builder) -> tuple[tuple[TensorSpec, ...], list[TensorSpec]]:
        _, reconstruction = self._round_trip(builder)
        builder.add("Identity", reconstruction, output=RECONSTRUCTION)
        return self._encoder.inputs, [self._image(RECONSTRUCTION)]

    def _score(self, builder: _Builder) -> tuple[tuple[TensorSpec, ...], list[TensorSpec]]:
        work = _work_type(self._image("").datatype)
        posterior, reconstruction = self._round_trip(builder)
        given = self._encoder.inputs[0]
        reduction = self._spec.effective_reconstruction_error(decoder=True)
        assert reduction is not None  # noqa: S101 - there is a decoder
        error = _reconstruction_error(
            builder,
            builder.cast(given.name, given.datatype, work),
            builder.cast(reconstruction, self._image("").datatype, work),
            reduction,
            work,
        )
        builder.add("Identity", error, output=RECONSTRUCTION_ERROR)
        datatype = Datatype.FP64 if work == TensorProto.DOUBLE else Datatype.FP32
        outputs = [TensorSpec(name=RECONSTRUCTION_ERROR, datatype=datatype, shape=(1,), unit=_error_unit(reduction))]
        prior = self._spec.effective_prior
        if prior is not None:
            mean, log_variance = (builder.cast(v, self._latent_type(i), work) for i, v in enumerate(posterior))
            builder.add("Identity", _kl(builder, mean, log_variance, prior, work), output=KL_PER_DIMENSION)
            shape = (self._spec.latent_dimension,)
            outputs.append(TensorSpec(name=KL_PER_DIMENSION, datatype=datatype, shape=shape, unit="nats"))
        return self._encoder.inputs, outputs

    def _sample(self, builder: _Builder) -> tuple[tuple[TensorSpec, ...], list[TensorSpec]]:
        decoder, prior = self._require_decoder(), self._spec.effective_prior
        assert prior is not None  # noqa: S101 - only a VAE has this operation
        element_type = element_type_of(decoder.inputs[0].datatype)
        scaled = builder.add("Mul", NOISE, builder.constant(prior.standard_deviation, element_type))
        latent = builder.add("Add", scaled, builder.constant(prior.mean, element_type))
        (value,) = builder.embed(decoder, {decoder.inputs[0].name: latent})
        builder.add("Identity", value, output=SAMPLE)
        return (self._latent(NOISE),), [self._image(SAMPLE)]

    def _round_trip(self, builder: _Builder) -> tuple[list[str], str]:
        """Encoder's outputs and the reconstruction from the first of them, the (posterior mean) latent."""
        decoder = self._require_decoder()
        given = self._encoder.inputs[0].name
        posterior = builder.embed(self._encoder, {given: given})
        (reconstruction,) = builder.embed(decoder, {decoder.inputs[0].name: posterior[0]})
        return posterior, reconstruction

    def _require_decoder(self) -> Graph:
        assert self._decoder is not None  # noqa: S101 - the spec offers these operations with a decoder only
        return self._decoder

    def _latent_type(self, index: int) -> Datatype:
        datatype = self._encoder.output_types[index]
        assert datatype is not None  # noqa: S101 - fit.py has checked it
        return datatype

    def _latent(self, name: str, index: int = 0) -> TensorSpec:
        return TensorSpec(name=name, datatype=self._latent_type(index), shape=(self._spec.latent_dimension,))

    def _image(self, name: str) -> TensorSpec:
        given, datatype = self._encoder.inputs[0], self._require_decoder().output_types[0]
        assert datatype is not None  # noqa: S101 - fit.py has checked it
        return given.model_copy(update={"name": name, "datatype": datatype})

    def _model(self, graph: GraphProto) -> ModelProto:
        opsets: dict[str, int] = {}
        for source in (self._encoder, self._decoder):
            for entry in source.model.opset_import if source else ():
                domain = "" if entry.domain == "ai.onnx" else entry.domain
                opsets[domain] = max(entry.version, opsets.get(domain, 0))
        return helper.make_model(
            graph,
            producer_name=PRODUCER,
            ir_version=max(source.model.ir_version for source in (self._encoder, self._decoder) if source),
            opset_imports=[helper.make_opsetid(domain, opsets[domain]) for domain in sorted(opsets)],
        )


def _value_info(tensor: TensorSpec) -> ValueInfoProto:
    dimensions = [BATCH, *(f"{tensor.name}_{i}" if size < 0 else size for i, size in enumerate(tensor.shape, start=1))]
    return helper.make_tensor_value_info(tensor.name, element_type_of(tensor.datatype), dimensions)


def _work_type(datatype: Datatype) -> int:
    """Errors and divergences are summed in float32, or float64 where the model is float64."""
    return int(TensorProto.DOUBLE if datatype is Datatype.FP64 else TensorProto.FLOAT)


def _error_unit(reduction: ReconstructionError) -> str:
    return "nats" if reduction is ReconstructionError.BINARY_CROSS_ENTROPY else ""


def _l2_normalised(builder: _Builder, value: str, element_type: int) -> str:
    """x / max(||x||_2, floor); the floor is float16's smallest normal number where 1e-12 would be zero."""
    floor = max(NORM_FLOOR, float(np.finfo(helper.tensor_dtype_to_np_dtype(element_type)).tiny))
    norm = builder.add("ReduceL2", value, builder.constant([1]), keepdims=1)
    return builder.add("Div", value, builder.add("Max", norm, builder.constant(floor, element_type)))


def _reconstruction_error(builder: _Builder, x: str, r: str, reduction: ReconstructionError, work: int) -> str:
    """One number per sample, [batch, 1]; definitions: contract.manifest.ReconstructionError."""
    if reduction is ReconstructionError.BINARY_CROSS_ENTROPY:
        elements = _binary_cross_entropy(builder, x, r, work)
    else:
        difference = builder.add("Sub", x, r)
        absolute = reduction is ReconstructionError.MEAN_ABSOLUTE
        elements = builder.add("Abs", difference) if absolute else builder.add("Mul", difference, difference)
    flat = builder.add("Flatten", elements, axis=1)
    means = (ReconstructionError.MEAN_SQUARED, ReconstructionError.MEAN_ABSOLUTE)
    return builder.add("ReduceMean" if reduction in means else "ReduceSum", flat, builder.constant([1]), keepdims=1)


def _binary_cross_entropy(builder: _Builder, x: str, r: str, work: int) -> str:
    """-(x ln r + (1 - x) ln(1 - r)) per element, r clipped away from 0 and 1."""
    one = builder.constant(1.0, work)
    floor, ceiling = (builder.constant(v, work) for v in (PROBABILITY_FLOOR, 1.0 - PROBABILITY_FLOOR))
    clipped = builder.add("Clip", r, floor, ceiling)
    black = builder.add("Mul", x, builder.add("Log", clipped))
    white = builder.add("Mul", builder.add("Sub", one, x), builder.add("Log", builder.add("Sub", one, clipped)))
    return builder.add("Neg", builder.add("Add", black, white))


def _kl(builder: _Builder, mean: str, log_variance: str, prior: NormalPrior, work: int) -> str:
    """KL(N(mean, exp(log_variance)) || N(m, s^2)) per dimension, in nats.

    1/2 [(exp(lv) + (mean - m)^2) / s^2 - lv + ln s^2 - 1]. Source: Kingma and Welling 2013, appendix B, for m = 0,
    s = 1; the general form is that of two univariate normal distributions.
    """
    difference = builder.add("Sub", mean, builder.constant(prior.mean, work))
    squares = builder.add("Add", builder.add("Exp", log_variance), builder.add("Mul", difference, difference))
    scaled = builder.add("Div", squares, builder.constant(prior.standard_deviation**2, work))
    shift = float(2.0 * np.log(prior.standard_deviation) - 1.0)
    doubled = builder.add("Add", builder.add("Sub", scaled, log_variance), builder.constant(shift, work))
    return builder.add("Mul", doubled, builder.constant(0.5, work))
