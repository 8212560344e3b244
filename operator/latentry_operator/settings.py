"""The operator's settings: a YAML file, and environment variables that take precedence over it."""

from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic.alias_generators import to_camel
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from latentry_operator.plan.facts import ClusterSettings
from latentry_serving.contract.errors import InvalidInput, Problem

PREFIX = "LATENTRY_OPERATOR_"
_SHOWN = 60

Seconds = Annotated[float, Field(gt=0, le=86_400)]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class ApiSettings(_Section):
    """How the operator talks to the API server."""

    timeout_seconds: Seconds = 30.0
    """Longest wait for one answer. Unit: seconds."""
    calls_per_second: Annotated[float, Field(gt=0, le=100_000)] = 500.0
    """Sustained rate of calls; watches and leader election do not count. Unit: calls per second."""
    connections: Annotated[int, Field(ge=24, le=1000)] = 64
    """Most connections at once, of which every watched kind takes one. Unit: connections."""
    discovery_seconds: Seconds = 30.0
    """How often to look for optional CRDs. Unit: seconds."""


class LeaderSettings(_Section):
    """Leader election, so that several replicas are safe."""

    elect: bool = True
    """Whether to elect; without it there must be one replica only."""
    lease: Annotated[str, Field(min_length=1, max_length=63)] = "latentry-operator"
    """Name of the Lease."""
    namespace: str | None = None
    """Namespace of the Lease. Left out: that of the pod (POD_NAMESPACE), else default."""
    duration_seconds: Annotated[float, Field(ge=1, le=3600)] = 15.0
    """How long a leader that is not heard of stays leader. Unit: seconds."""
    renew_deadline_seconds: Seconds = 10.0
    """How long a leader tries to renew before it stops acting; less than the duration. Unit: seconds."""
    retry_seconds: Seconds = 2.0
    """Pause between attempts. Unit: seconds."""

    @model_validator(mode="after")
    def _ordered(self) -> "LeaderSettings":
        if not 1.2 * self.retry_seconds < self.renew_deadline_seconds < self.duration_seconds:
            raise ValueError(
                f"needs 1.2 * retrySeconds < renewDeadlineSeconds < durationSeconds, has {self.retry_seconds:g},"
                f" {self.renew_deadline_seconds:g}, {self.duration_seconds:g}; write for example 2, 10, 15"
            )
        return self


class TapsSettings(_Section):
    """How the operator reads the taps of the serving pods, for conditions and gates."""

    every_seconds: Annotated[float, Field(ge=0.1, le=3600)] = 30.0
    """How often each pod is asked. Unit: seconds."""
    timeout_seconds: Annotated[float, Field(gt=0, le=60)] = 5.0
    """Longest wait for one answer. Unit: seconds."""
    connections: Annotated[int, Field(ge=1, le=1000)] = 32
    """Most pods asked at a time."""


class PrometheusSettings(_Section):
    """How the operator asks Prometheus (cluster.prometheusUrl) about the objectives."""

    every_seconds: Annotated[float, Field(ge=0.1, le=3600)] = 60.0
    """How often, for all models together. Unit: seconds."""
    timeout_seconds: Annotated[float, Field(gt=0, le=300)] = 10.0
    """Longest wait for one answer. Unit: seconds."""


class HttpSettings(_Section):
    """The operator's own HTTP endpoint: /healthz, /readyz, /metrics."""

    host: str = "0.0.0.0"  # noqa: S104 - the kubelet and Prometheus come from outside the pod
    """Address to listen on."""
    port: Annotated[int, Field(ge=0, le=65535)] = 9401
    """TCP port; 0 lets the system choose."""


class OperatorSettings(BaseSettings):
    """Everything the operator can be told. Keys of the file are camelCase; ``api.timeoutSeconds`` is
    ``LATENTRY_OPERATOR_API__TIMEOUT_SECONDS`` in the environment."""

    model_config = SettingsConfigDict(
        frozen=True,
        extra="forbid",
        env_prefix=PREFIX,
        env_nested_delimiter="__",
        use_attribute_docstrings=True,
    )

    namespace: str | None = None
    """The only namespace whose LatentModels are served. Left out: all."""
    kubeconfig: Path | None = None
    """Credentials. Left out: the pod's service account, or outside a pod KUBECONFIG or ~/.kube/config."""
    context: str | None = None
    """Context of the kubeconfig. Left out: its current one."""
    workers: Annotated[int, Field(ge=1, le=256)] = 16
    """Most LatentModels worked on at a time."""
    log_level: Annotated[str, Field(pattern="^(DEBUG|INFO|WARNING|ERROR)$")] = "INFO"
    """Least level of the log: DEBUG, INFO, WARNING or ERROR."""
    otlp_endpoint: str | None = None
    """Where spans go, over OTLP/gRPC. Left out: nowhere."""
    api: ApiSettings = ApiSettings()
    """Talking to the API server."""
    leader: LeaderSettings = LeaderSettings()
    """Leader election."""
    http: HttpSettings = HttpSettings()
    """Health and metrics."""
    taps: TapsSettings = TapsSettings()
    """Reading the taps."""
    prometheus: PrometheusSettings = PrometheusSettings()
    """Asking Prometheus."""
    cluster: ClusterSettings = Field(default_factory=ClusterSettings)
    """Images, resources and whatever else the spec of a LatentModel does not say."""

    @field_validator("cluster", mode="before")
    @classmethod
    def _fill_in(cls, given: Any) -> Any:
        # pydantic would copy the defaults, and read-only mappings cannot be copied.
        if not isinstance(given, dict):
            return given
        base = ClusterSettings()
        return {entry.name: getattr(base, entry.name) for entry in fields(base)} | given

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The environment wins over the file, whose content comes as arguments."""
        return env_settings, init_settings


def load_settings(file: Path | None = None, **overrides: Any) -> OperatorSettings:
    """Settings from the file, the environment, and ``overrides`` of what stands in the file.

    Raises:
        InvalidInput: naming every key that is wrong.
    """
    given = (_snake(_read(file), OperatorSettings) if file is not None else {}) | overrides
    try:
        return OperatorSettings(**given)
    except ValidationError as error:
        raise InvalidInput("operator settings", [_problem(entry, file) for entry in error.errors()]) from error


def _problem(entry: ErrorDetails, file: Path | None) -> Problem:
    words = [str(part) for part in entry["loc"]]
    variable = PREFIX + "__".join(words).upper()
    in_file = f"in {file} or " if file is not None else ""
    remedy = f"correct it {in_file}in the environment ({variable})"
    if entry["type"] == "extra_forbidden":
        remedy = f"remove it {in_file}from the environment ({variable}); docs/operator.md lists the keys"
    message = entry["msg"].removeprefix("Value error, ")
    return Problem(".".join(map(to_camel, words)) or "settings", f"{str(entry['input'])[:_SHOWN]}: {message}", remedy)


def _snake(data: Any, kind: Any) -> Any:
    """The file's camelCase keys as our fields' names; what lies inside a field that has no fields stays as it is."""
    inner = (
        get_type_hints(kind) if isinstance(kind, type) and (is_dataclass(kind) or hasattr(kind, "model_fields")) else {}
    )
    if not isinstance(data, dict) or not inner:
        return data
    names = {to_camel(name): name for name in inner}
    return {names.get(key, key): _snake(value, inner.get(str(names.get(key, key)))) for key, value in data.items()}


def _read(file: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InvalidInput.one(
            str(file), path="file", problem=str(error), remedy="name a YAML file that can be read"
        ) from error
    if content is not None and not isinstance(content, dict):
        raise InvalidInput.one(
            str(file), path="document", problem="not a mapping", remedy="write keys and values, such as workers: 16"
        )
    return content or {}
