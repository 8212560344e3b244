"""Which tensors are watched: names by family, several inputs, shapes and types that cannot be."""

from latentry_serving.contract.manifest import Contract, Datatype, OperationContract, TensorSpec
from latentry_serving.contract.operations import Family, Operation
from latentry_serving.contract.watched import Source, Watched, watched_tensors


def _tensor(name: str, *shape: int, datatype: Datatype = Datatype.FP32) -> TensorSpec:
    return TensorSpec(name=name, datatype=datatype, shape=shape)


def _contract(family: Family, **operations: tuple[list[TensorSpec], list[TensorSpec]]) -> Contract:
    return Contract(
        family=family,
        latent_dimension=4,
        embedding_space="e",
        operations={
            Operation(name): OperationContract(model=f"m_{name}", inputs=tuple(inputs), outputs=tuple(outputs))
            for name, (inputs, outputs) in operations.items()
        },
    )


def test_vae() -> None:
    image = _tensor("image", 1, 8, 8)
    contract = _contract(
        Family.VAE,
        encode=([image], [_tensor("posterior_mean", 4), _tensor("posterior_log_variance", 4)]),
        decode=([_tensor("latent", 4)], [_tensor("reconstruction", 1, 8, 8)]),
        reconstruct=([image], [_tensor("reconstruction", 1, 8, 8)]),
        score=([image], [_tensor("reconstruction_error", 1), _tensor("kl_per_dimension", 4)]),
        sample=([_tensor("noise", 4)], [_tensor("sample", 1, 8, 8)]),
    )
    assert watched_tensors(contract) == (
        Watched(
            "input",
            64,
            tuple(Source(o, "request", "image") for o in (Operation.ENCODE, Operation.RECONSTRUCT, Operation.SCORE)),
        ),
        Watched("posterior_mean", 4, (Source(Operation.ENCODE, "response", "posterior_mean"),)),
        Watched("posterior_log_variance", 4, (Source(Operation.ENCODE, "response", "posterior_log_variance"),)),
        Watched("reconstruction_error", 1, (Source(Operation.SCORE, "response", "reconstruction_error"),)),
    )


def test_several_inputs_are_named() -> None:
    contract = _contract(Family.ENCODER, encode=([_tensor("a", 2), _tensor("b", 3)], [_tensor("embedding", 4)]))
    assert [(w.name, w.dimensions) for w in watched_tensors(contract)] == [
        ("input/a", 2),
        ("input/b", 3),
        ("embedding", 4),
    ]


def test_shapes_that_vary_and_texts_are_left_out() -> None:
    text = _tensor("text", 1, datatype=Datatype.BYTES)
    contract = _contract(Family.AUTOENCODER, encode=([_tensor("ids", -1), text], [_tensor("latent", 4)]))
    assert [w.name for w in watched_tensors(contract)] == ["embedding"]
