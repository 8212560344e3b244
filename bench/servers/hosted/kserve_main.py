"""Runs one ONNX graph inside KServe's Python ModelServer. Started by the interpreter of KServe's own environment.

Run: ``python kserve_main.py --model_name NAME --http_port PORT --grpc_port PORT --graph model.onnx``.
"""

import argparse
import logging

import onnxruntime
from kserve import InferInput, InferOutput, InferRequest, InferResponse, Model, ModelServer, model_server
from kserve.utils.utils import generate_uuid


class OnnxModel(Model):
    """Same onnxruntime settings as the local Triton model: one thread, CPU.

    ``predict`` is a coroutine that runs the graph in place, the fastest of the ways ModelServer offers: a graph of
    some 100 us does not repay a thread hop.
    """

    def __init__(self, name: str, graph: str) -> None:
        super().__init__(name)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        self._outputs = [output.name for output in self._session.get_outputs()]
        self.ready = True

    async def predict(self, payload: InferRequest, headers: dict[str, str] | None = None) -> InferResponse:
        inputs: list[InferInput] = payload.inputs
        results = self._session.run(self._outputs, {tensor.name: tensor.as_numpy() for tensor in inputs})
        # Triton's rule, which KServe follows: a raw request gets a raw answer.
        binary = payload.from_grpc or payload.use_binary_outputs
        outputs = []
        for name, array in zip(self._outputs, results, strict=True):
            output = InferOutput(name, list(array.shape), "FP32")
            output.set_data_from_numpy(array, binary_data=binary)
            outputs.append(output)
        return InferResponse(
            payload.id or generate_uuid(),
            self.name,
            outputs,
            from_grpc=payload.from_grpc,
            use_binary_outputs=payload.use_binary_outputs,
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(parents=[model_server.parser])
    parser.add_argument("--graph", required=True)
    arguments = parser.parse_args()
    server = ModelServer()
    # No line per request: the other servers write none either.
    for name in ("uvicorn.access", "kserve", "kserve.trace"):
        logging.getLogger(name).setLevel(logging.WARNING)
    server.start([OnnxModel(arguments.model_name, arguments.graph)])
