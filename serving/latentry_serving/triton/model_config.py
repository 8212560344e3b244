"""Typed Triton model configuration, to and from ``config.pbtxt``. Pure: text in, values out, no server.

Only the settings Latentry uses are modelled. Reading is strict: a text that says anything more is refused, because
writing it back would lose that setting. ``ModelConfig.from_pbtxt(config.to_pbtxt()) == config`` for every config.

Source: triton-inference-server/common, ``protobuf/model_config.proto``.
"""

from enum import StrEnum
from typing import Annotated, Any, Self

from google.protobuf import json_format, text_format
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from tritonclient.grpc import model_config_pb2 as pb

from latentry_serving.contract.errors import InvalidInput, Problem
from latentry_serving.contract.manifest import Datatype, TensorSpec

CONFIG_FILE = "config.pbtxt"
MODEL_FILE = "model.onnx"
MODEL_VERSION = "1"
"""A bundle's repository holds one version of each model; versions of the model are bundles of their own."""
ONNXRUNTIME_BACKEND = "onnxruntime"
PYTHON_BACKEND = "python"

_TYPE_PREFIX = "TYPE_"
_STRING_TYPE = "STRING"  # the configuration's word for BYTES
_CORRECT = "correct it, or rebuild the bundle"

Count = Annotated[int, Field(ge=1, le=2**31 - 1)]
Text = Annotated[str, Field(min_length=1)]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class InstanceKind(StrEnum):
    """Where instances run. AUTO: a GPU when Triton sees one, else the CPU."""

    AUTO = "AUTO"
    CPU = "CPU"
    GPU = "GPU"


class WarmupData(StrEnum):
    """What a warm-up request carries."""

    ZERO = "zero_data"
    RANDOM = "random_data"


class TensorConfig(_Frozen):
    """One input or output. ``shape`` is without the batch dimension when ``max_batch_size`` > 0; -1 varies."""

    name: Text
    datatype: Datatype
    shape: tuple[Annotated[int, Field(ge=-1, le=2**63 - 1)], ...]

    @classmethod
    def of(cls, tensor: TensorSpec) -> "TensorConfig":
        """The configuration of a contract's tensor."""
        return cls(name=tensor.name, datatype=tensor.datatype, shape=tensor.shape)


class InstanceGroup(_Frozen):
    """How many copies of the model run, and where."""

    count: Count = 1
    kind: InstanceKind = InstanceKind.AUTO


class DynamicBatching(_Frozen):
    """Triton joins waiting requests into one batch."""

    max_queue_delay_us: Annotated[int, Field(ge=0, le=2**63 - 1)] = 0
    """Longest time in microseconds a request waits for others."""
    preferred_batch_sizes: tuple[Count, ...] = ()


class WarmupInput(_Frozen):
    """One generated input; ``shape`` without the batch dimension, every dimension fixed."""

    datatype: Datatype
    shape: tuple[Annotated[int, Field(ge=0, le=2**63 - 1)], ...]
    data: WarmupData = WarmupData.ZERO


class Warmup(_Frozen):
    """A request Triton sends to itself before the model counts as ready."""

    name: Text
    batch_size: Count = 1
    count: Count = 1
    inputs: Annotated[dict[Text, WarmupInput], Field(min_length=1)]


class Accelerator(_Frozen):
    """An execution accelerator of the backend: ``tensorrt`` on a GPU, ``openvino`` on a CPU."""

    name: Text
    parameters: dict[str, str] = Field(default_factory=dict)


class Optimisation(_Frozen):
    """What the backend may do to the graph."""

    graph_level: Annotated[int, Field(ge=-1, le=2)] | None = None
    """ONNX Runtime: -1 basic, 1 extended, 2 all; None leaves it to the backend, which does all."""
    gpu_accelerators: tuple[Accelerator, ...] = ()
    cpu_accelerators: tuple[Accelerator, ...] = ()


class ModelConfig(_Frozen):
    """One model of a Triton repository: the content of its ``config.pbtxt``."""

    name: Text
    backend: str = ""
    """``onnxruntime``, ``python``, ...; either this or ``platform`` is set."""
    platform: str = ""
    """The older spelling, ``onnxruntime_onnx``."""
    max_batch_size: Annotated[int, Field(ge=0, le=2**31 - 1)] = 0
    """Rows in one execution; 0 means the model does not batch."""
    inputs: Annotated[tuple[TensorConfig, ...], Field(min_length=1)]
    outputs: Annotated[tuple[TensorConfig, ...], Field(min_length=1)]
    instances: InstanceGroup = InstanceGroup()
    dynamic_batching: DynamicBatching | None = None
    optimisation: Optimisation | None = None
    warmup: tuple[Warmup, ...] = ()
    parameters: dict[str, str] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _backend_or_platform(self) -> Self:
        if bool(self.backend) == bool(self.platform):
            raise ValueError(
                "set either backend (onnxruntime) or platform (onnxruntime_onnx), not both and not neither"
            )
        return self

    def to_pbtxt(self) -> str:
        """The text of ``config.pbtxt``; the same config always gives the same text."""
        text: str = text_format.MessageToString(_to_message(self), as_utf8=True)
        return text

    def to_json(self) -> str:
        """The same configuration as Triton's repository API takes it in place of the file's."""
        text: str = json_format.MessageToJson(_to_message(self), preserving_proto_field_name=True, indent=None)
        return text

    @classmethod
    def from_pbtxt(cls, text: str, *, subject: str = CONFIG_FILE) -> "ModelConfig":
        """Reads a ``config.pbtxt``.

        Args:
            text: the file's content.
            subject: how to name the file in errors.

        Raises:
            InvalidInput: no valid text protobuf, a value out of range, or a setting this type does not hold.
        """
        message = pb.ModelConfig()
        try:
            text_format.Parse(text, message)
            _fill_defaults(message)
            config = _from_message(message)
        except ValidationError as error:
            raise InvalidInput(subject, [_problem(entry) for entry in error.errors()]) from error
        except (text_format.ParseError, ValueError) as error:
            raise _refused(subject, str(error), _CORRECT) from error
        extra = _fields_not_kept(message, _to_message(config))
        if extra:
            raise _refused(
                subject,
                f"sets more than Latentry keeps, in {', '.join(extra)}",
                "remove that, or set it through the bundle's runtime section",
            )
        return config


def _refused(subject: str, problem: str, remedy: str) -> InvalidInput:
    return InvalidInput.one(subject, path=CONFIG_FILE, problem=problem, remedy=remedy)


def _problem(entry: Any) -> Problem:
    path = ".".join(str(part) for part in entry["loc"]) or CONFIG_FILE
    return Problem(path, f"{entry['msg']}, got {entry['input']!r}" if entry["loc"] else entry["msg"], _CORRECT)


def _fill_defaults(message: Any) -> None:
    """Writes out what Triton assumes when a text leaves it out."""
    groups = message.instance_group or [message.instance_group.add()]
    for counted in (*groups, *message.model_warmup):
        counted.count = counted.count or 1


def _fields_not_kept(given: Any, kept: Any) -> list[str]:
    """Names of the top-level fields whose content differs."""
    return [field.name for field in given.DESCRIPTOR.fields if getattr(given, field.name) != getattr(kept, field.name)]


def _type_number(datatype: Datatype) -> int:
    word = _STRING_TYPE if datatype is Datatype.BYTES else datatype.value
    number: int = pb.DataType.Value(_TYPE_PREFIX + word)
    return number


def _datatype(number: int) -> Datatype:
    word = pb.DataType.Name(number).removeprefix(_TYPE_PREFIX)
    return Datatype.BYTES if word == _STRING_TYPE else Datatype(word)


def _to_message(config: ModelConfig) -> Any:
    message = pb.ModelConfig(
        name=config.name, backend=config.backend, platform=config.platform, max_batch_size=config.max_batch_size
    )
    for tensors, target in ((config.inputs, message.input), (config.outputs, message.output)):
        for tensor in tensors:
            target.add(name=tensor.name, data_type=_type_number(tensor.datatype), dims=tensor.shape)
    message.instance_group.add(
        count=config.instances.count, kind=pb.ModelInstanceGroup.Kind.Value(f"KIND_{config.instances.kind}")
    )
    if config.dynamic_batching is not None:
        message.dynamic_batching.SetInParent()  # an empty section still switches batching on
        message.dynamic_batching.max_queue_delay_microseconds = config.dynamic_batching.max_queue_delay_us
        message.dynamic_batching.preferred_batch_size.extend(config.dynamic_batching.preferred_batch_sizes)
    if config.optimisation is not None:
        _write_optimisation(config.optimisation, message.optimization)
    for warmup in config.warmup:
        _write_warmup(warmup, message.model_warmup.add())
    for key, value in config.parameters.items():
        message.parameters[key].string_value = value
    return message


def _write_optimisation(optimisation: Optimisation, target: Any) -> None:
    target.SetInParent()
    if optimisation.graph_level is not None:
        target.graph.SetInParent()
        target.graph.level = optimisation.graph_level
    for accelerators, field in (
        (optimisation.gpu_accelerators, "gpu_execution_accelerator"),
        (optimisation.cpu_accelerators, "cpu_execution_accelerator"),
    ):
        for accelerator in accelerators:
            getattr(target.execution_accelerators, field).add(name=accelerator.name, parameters=accelerator.parameters)


def _write_warmup(warmup: Warmup, target: Any) -> None:
    target.name, target.batch_size, target.count = warmup.name, warmup.batch_size, warmup.count
    for name, given in warmup.inputs.items():
        entry = target.inputs[name]
        entry.data_type = _type_number(given.datatype)
        entry.dims.extend(given.shape)
        setattr(entry, given.data.value, True)


def _from_message(message: Any) -> ModelConfig:
    groups = message.instance_group
    if len(groups) > 1:
        raise ValueError(f"{len(groups)} instance groups; Latentry keeps one")
    batching = message.dynamic_batching
    return ModelConfig(
        name=message.name,
        backend=message.backend,
        platform=message.platform,
        max_batch_size=message.max_batch_size,
        inputs=tuple(_tensor(entry) for entry in message.input),
        outputs=tuple(_tensor(entry) for entry in message.output),
        instances=_instances(groups[0]),
        dynamic_batching=DynamicBatching(
            max_queue_delay_us=batching.max_queue_delay_microseconds,
            preferred_batch_sizes=tuple(batching.preferred_batch_size),
        )
        if message.HasField("dynamic_batching")
        else None,
        optimisation=_optimisation(message.optimization) if message.HasField("optimization") else None,
        warmup=tuple(_warmup(entry) for entry in message.model_warmup),
        parameters={key: value.string_value for key, value in message.parameters.items()},
    )


def _tensor(entry: Any) -> TensorConfig:
    return TensorConfig(name=entry.name, datatype=_datatype(entry.data_type), shape=tuple(entry.dims))


def _instances(group: Any) -> InstanceGroup:
    kind = pb.ModelInstanceGroup.Kind.Name(group.kind).removeprefix("KIND_")
    return InstanceGroup(count=group.count, kind=InstanceKind(kind))


def _optimisation(entry: Any) -> Optimisation:
    def accelerators(given: Any) -> tuple[Accelerator, ...]:
        return tuple(Accelerator(name=one.name, parameters=dict(one.parameters)) for one in given)

    return Optimisation(
        graph_level=entry.graph.level if entry.HasField("graph") else None,
        gpu_accelerators=accelerators(entry.execution_accelerators.gpu_execution_accelerator),
        cpu_accelerators=accelerators(entry.execution_accelerators.cpu_execution_accelerator),
    )


def _warmup(entry: Any) -> Warmup:
    inputs = {
        name: WarmupInput(
            datatype=_datatype(given.data_type),
            shape=tuple(given.dims),
            data=WarmupData.RANDOM if given.random_data else WarmupData.ZERO,
        )
        for name, given in sorted(entry.inputs.items())
    }
    return Warmup(name=entry.name, batch_size=entry.batch_size, count=entry.count, inputs=inputs)
