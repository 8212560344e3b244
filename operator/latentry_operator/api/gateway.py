"""Which Gateway takes calls from outside the model's Service, and divides them between two versions."""

from typing import Annotated

from pydantic import ConfigDict, Field

from latentry_operator.api.base import ATOMIC, ApiModel, LongObjectName, rules

_HOSTNAME = r"^(\*\.)?[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"

Hostname = Annotated[str, Field(max_length=253, pattern=_HOSTNAME, examples=["digits.example.com"])]


class ParentGateway(ApiModel):
    """A Gateway that the model's routes attach to, as in the Gateway API's parentRefs."""

    name: Annotated[LongObjectName, Field(examples=["shared"])]
    """The Gateway's name."""
    namespace: Annotated[str, Field(max_length=63, pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")] | None = None
    """The Gateway's namespace. Left out: the model's."""
    section_name: Annotated[LongObjectName, Field(examples=["https"])] | None = None
    """Which of its listeners. Left out: every one that admits the route."""
    port: Annotated[int, Field(ge=1, le=65535)] | None = None
    """Which of its ports. No unit. Left out: every one."""


class Gateway(ApiModel):
    """The model behind a Gateway: an HTTPRoute and a GRPCRoute of its own."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            (
                "(has(self.hostnames) && size(self.hostnames) > 0)"
                " || (has(self.grpcHostnames) && size(self.grpcHostnames) > 0)",
                "a route needs hostnames or grpcHostnames",
            ),
            (
                "!has(self.hostnames) || !has(self.grpcHostnames)"
                " || !self.hostnames.exists(h, self.grpcHostnames.exists(g, g == h))",
                "a Gateway refuses a hostname that an HTTPRoute and a GRPCRoute share; give gRPC another one",
            ),
        )
    )

    parent_refs: Annotated[tuple[ParentGateway, ...], Field(min_length=1, max_length=8, json_schema_extra=ATOMIC)]
    """The Gateways that the routes attach to."""
    hostnames: Annotated[tuple[Hostname, ...], Field(max_length=8, json_schema_extra=ATOMIC)] = ()
    """Names under which HTTP clients call this model; of an HTTPRoute. Empty: none is made."""
    grpc_hostnames: Annotated[tuple[Hostname, ...], Field(max_length=8, json_schema_extra=ATOMIC)] = ()
    """Names under which gRPC clients call this model; of a GRPCRoute. Empty: none is made."""
