"""A served model for a Triton that has the Python backend alone: the same graph, in onnxruntime.

It stands beside the model.onnx that `relo-edge triton` wrote, and does by hand what the ONNX
Runtime backend does with implicit state: a stream's is kept by its correlation id. Tensors pass by
DLPack: the wheel's Python backend was built for NumPy 1, and reads NumPy 2's arrays as empty.
"""

import json
from pathlib import Path

import numpy as np
import onnxruntime
import triton_python_backend_utils as pb_utils

TYPES = {"TYPE_FP32": np.float32, "TYPE_FP16": np.float16, "TYPE_UINT8": np.uint8}


class TritonPythonModel:
    def initialize(self, args):
        config = json.loads(args["model_config"])
        batching = config.get("sequence_batching") or {}
        self.inputs = [tensor["name"] for tensor in config["input"]]
        self.controls = [control["name"] for control in batching.get("control_input", [])]
        self.outputs = [tensor["name"] for tensor in config["output"]]
        self.states = batching.get("state", [])
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        graph = Path(args["model_repository"]) / args["model_version"] / "model.onnx"
        self.session = onnxruntime.InferenceSession(
            str(graph), options, providers=["CPUExecutionProvider"]
        )
        self.kept = {}

    def execute(self, requests):
        self.lent = []
        return [self.answer(request) for request in requests]

    def answer(self, request):
        feeds = {
            name: np.array(np.from_dlpack(pb_utils.get_input_tensor_by_name(request, name)))
            for name in (*self.inputs, *self.controls)
        }
        sequence = request.correlation_id()
        if request.flags() & pb_utils.TRITONSERVER_REQUEST_FLAG_SEQUENCE_START:
            self.kept[sequence] = [
                np.zeros([1, *map(int, state["dims"])], TYPES[state["data_type"]])
                for state in self.states
            ]
        states = self.kept.get(sequence, [])
        names = [state["input_name"] for state in self.states]
        feeds.update(zip(names, states, strict=True))
        given = [*self.outputs, *(state["output_name"] for state in self.states)]
        results = self.session.run(given, feeds)
        self.kept[sequence] = results[len(self.outputs) :]
        if request.flags() & pb_utils.TRITONSERVER_REQUEST_FLAG_SEQUENCE_END or not self.states:
            self.kept.pop(sequence, None)
        pairs = zip(self.outputs, results, strict=False)
        tensors = [self.lend(name, value) for name, value in pairs]
        return pb_utils.InferenceResponse(output_tensors=tensors)

    def lend(self, name, array):
        """A tensor over memory that lives until the backend has read it, after `execute`.

        It is onnxruntime's DLPack: NumPy does not know how the backend marks what it has taken.
        """
        self.lent.append(onnxruntime.OrtValue.ortvalue_from_numpy(array))
        return pb_utils.Tensor.from_dlpack(name, self.lent[-1]._ortvalue)
