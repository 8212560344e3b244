"""What every resource is made of: the frozen base type, metadata and text types with their limits.

Conventions that the CRD generator and its tests rely on: a field's docstring is its description in
``kubectl explain``; numbers and durations say ``Unit: ...``; an optional field without a default says
``Left out: ...``. The generator itself appends ``Required.`` or ``Default: ...``. Every text, list and map has a
largest size, which bounds the cost of CEL rules.
"""

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema
from pydantic.alias_generators import to_camel

from latentry_serving.contract.manifest import Sha256
from latentry_serving.contract.units import ByteSize, Duration

GROUP = "latentry.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"

MODEL_NAME_LENGTH = 44
"""Longest LatentModel name: a Service's 63, less ``-`` and a revision's 8 digits, less KServe's ``-predictor``."""
UNIT_LENGTH = 32

DNS_1035_LABEL = r"^[a-z]([-a-z0-9]*[a-z0-9])?$"
DNS_1123_LABEL = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"
DNS_1123_SUBDOMAIN = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"
QUALIFIED_NAME = r"^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$"


def _text_with_unit(value: object) -> object:
    # The schema knows text only; so that both give the same answer, a bare number is refused here too.
    if isinstance(value, int | float) and not isinstance(value, bool):
        raise ValueError(f"{value} has no unit; write {value}Mi or {value}Gi")  # noqa: TRY004
    return _short(value)


def _short(value: object) -> object:
    if isinstance(value, str) and len(value) > UNIT_LENGTH:
        raise ValueError(f"a text of {len(value)} characters is too long; write at most {UNIT_LENGTH}, for example 30s")
    return value


Time = Annotated[
    Duration,
    BeforeValidator(_short),
    WithJsonSchema({"type": "string", "pattern": Duration.PATTERN, "maxLength": UNIT_LENGTH}),
]
"""A duration in a resource: text such as 500us, 50ms, 30s, 1h30m or 30d."""
Bytes = Annotated[
    ByteSize,
    BeforeValidator(_text_with_unit),
    WithJsonSchema({"type": "string", "pattern": ByteSize.PATTERN, "maxLength": UNIT_LENGTH}),
]
"""A byte quantity in a resource: text such as 512Mi or 16Gi."""
Digest = Annotated[Sha256, Field(max_length=71, examples=["sha256:" + "0" * 64])]
Timestamp = Annotated[str, Field(max_length=64, json_schema_extra={"format": "date-time"})]
"""RFC 3339, as the API server writes it."""
ModelName = Annotated[str, Field(max_length=MODEL_NAME_LENGTH, pattern=DNS_1035_LABEL, examples=["digits-vae"])]
ObjectName = Annotated[str, Field(max_length=63, pattern=DNS_1123_LABEL, examples=["a10"])]
LongObjectName = Annotated[str, Field(max_length=253, pattern=DNS_1123_SUBDOMAIN, examples=["my-account"])]
Word = Annotated[str, Field(max_length=128)]
Sentence = Annotated[str, Field(max_length=1024)]
Story = Annotated[str, Field(max_length=32768)]
Labels = Annotated[dict[str, Annotated[str, Field(max_length=63)]], Field(max_length=64)]
Annotations = Annotated[dict[str, Annotated[str, Field(max_length=4096)]], Field(max_length=64)]


class ApiModel(BaseModel):
    """Base of every type in a resource: frozen, camelCase outside, unknown fields refused."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        alias_generator=to_camel,
        populate_by_name=True,
        allow_inf_nan=False,
        use_attribute_docstrings=True,
    )

    def to_dict(self) -> dict[str, Any]:
        """As JSON-ready data with camelCase keys, absent fields left out."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


class ObjectMeta(ApiModel):
    """The part of Kubernetes' metadata that Latentry reads; whatever else a server adds is ignored."""

    model_config = ConfigDict(extra="ignore")

    name: LongObjectName
    """The object's name, unique in its namespace and kind."""
    namespace: str | None = None
    """The namespace. Left out: the client's current namespace; always for cluster-scoped kinds."""
    uid: str | None = None
    """Identity given by the server. Left out: not from a server."""
    generation: int | None = None
    """Counts changes of the spec, no unit. Left out: not from a server."""
    resource_version: str | None = None
    """The server's version of the whole object. Left out: not from a server."""
    creation_timestamp: str | None = None
    """When the server created the object. Left out: not from a server."""
    deletion_timestamp: str | None = None
    """When deletion was asked for. Left out: nobody asked."""
    labels: dict[str, str] = Field(default_factory=dict)
    """Labels for selection."""
    annotations: dict[str, str] = Field(default_factory=dict)
    """Annotations for tools."""


def rules(*pairs: tuple[str, str]) -> dict[str, Any]:
    """CEL rules for ``json_schema_extra``: (rule, message) pairs as ``x-kubernetes-validations``.

    The server also tries a rule on the schema's default as written, before the defaults inside it are filled in: ask
    ``has()`` about optional fields before reading one that has a default.
    """
    return {"x-kubernetes-validations": [{"rule": rule, "message": message} for rule, message in pairs]}


def merge_by(*keys: str) -> dict[str, Any]:
    """Marks a list, in ``json_schema_extra``, as one whose items server-side apply merges by these fields."""
    return {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": list(keys)}


ATOMIC: dict[str, Any] = {"x-kubernetes-list-type": "atomic"}
"""Marks a list as one value: whoever applies it owns all of it."""
