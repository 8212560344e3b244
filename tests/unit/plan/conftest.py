"""A bundle manifest and a LatentModel that fit each other."""

from collections.abc import Callable
from typing import Any

import pytest

from latentry_operator.api.latentmodel import LatentModel
from latentry_operator.api.parse import parse_resource
from latentry_serving.contract.manifest import (
    BundleManifest,
    Contract,
    Datatype,
    FileEntry,
    Golden,
    OperationContract,
    Provenance,
    TensorSpec,
    Tolerance,
)
from latentry_serving.contract.operations import OPERATIONS, Family, Operation, model_name


@pytest.fixture
def bundle() -> Callable[..., BundleManifest]:
    """Makes a manifest; which tensors it has does not matter to the planner."""

    def make(
        family: Family = Family.VAE, operations: tuple[Operation, ...] | None = None, **more: Any
    ) -> BundleManifest:
        chosen = OPERATIONS[family] if operations is None else operations
        tensor = TensorSpec(name="image", datatype=Datatype.FP32, shape=(1, 8, 8))
        return BundleManifest(
            name="digits",
            version="3",
            contract=Contract(
                family=family,
                latent_dimension=16,
                embedding_space="digits-a",
                operations={
                    operation: OperationContract(
                        model=model_name("digits", operation), inputs=(tensor,), outputs=(tensor,)
                    )
                    for operation in chosen
                },
            ),
            golden=Golden(
                samples=4, tolerances={operation: Tolerance(absolute=1e-5, relative=0) for operation in chosen}
            ),
            files=tuple(FileEntry(path=name, sha256="sha256:" + "0" * 64, bytes=100) for name in ("a", "b")),
            provenance=Provenance(sources={}),
            **more,
        )

    return make


@pytest.fixture
def latent_model() -> Callable[..., LatentModel]:
    """Makes a LatentModel from spec fields; the bundle is on this machine and has no digest unless given."""

    def make(name: str = "digits-vae", **spec: Any) -> LatentModel:
        whole = {"family": "VAE", "bundle": {"uri": "file://digits"}} | spec
        data = {
            "apiVersion": "latentry.dev/v1alpha1",
            "kind": "LatentModel",
            "metadata": {"name": name, "namespace": "demo"},
            "spec": whole,
        }
        resource = parse_resource(data, subject=name)
        assert isinstance(resource, LatentModel)
        return resource

    return make
