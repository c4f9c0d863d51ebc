"""A gRPC server with Triton's protocol that runs a written model repository in this process.

It knows what the client relies on: configurations, sequences with START and END, implicit state.
The same tests run against a real server where there is one: tests/helpers/triton_server.py.
"""

from concurrent import futures

import grpc
import numpy as np
from google.protobuf import text_format
from triton_server import find_free_port
from tritonclient.grpc import model_config_pb2, service_pb2, service_pb2_grpc

from relo_edge.graphs.sessions import open_session

TYPES = {"FP32": np.float32, "UINT8": np.uint8}


class Model:
    def __init__(self, folder):
        text = (folder / "config.pbtxt").read_text()
        self.config = text_format.Parse(text, model_config_pb2.ModelConfig())
        self.session = open_session(folder / "1" / "model.onnx", threads=1)
        self.states = list(self.config.sequence_batching.state)
        self.kept = {}

    def run(self, feeds, sequence, start, end):
        if self.states:
            if start:
                self.kept[sequence] = {
                    state.input_name: np.zeros([1, *state.dims], np.float32)
                    for state in self.states
                }
            for control in self.config.sequence_batching.control_input:
                feeds[control.name] = np.full((1, 1), start, np.float32)
            feeds.update(self.kept[sequence])
        outputs = [output.name for output in self.config.output]
        given = [*outputs, *(state.output_name for state in self.states)]
        results = dict(zip(given, self.session.run(given, feeds), strict=True))
        for state in self.states:
            self.kept[sequence][state.input_name] = results.pop(state.output_name)
        if end:
            del self.kept[sequence]
        return results


class TritonStandIn(service_pb2_grpc.GRPCInferenceServiceServicer):
    """Killed and started again on the same port, it has forgotten everything."""

    def __init__(self, repository):
        self.repository = repository
        self.port = find_free_port()
        self.server = None

    @property
    def url(self):
        return f"127.0.0.1:{self.port}"

    def start(self, wait=True):
        del wait
        folders = [file.parent for file in self.repository.glob("*/config.pbtxt")]
        self.models = {folder.name: Model(folder) for folder in folders}
        self.server = grpc.server(futures.ThreadPoolExecutor(1))
        service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(self, self.server)
        self.server.add_insecure_port(self.url)
        self.server.start()
        return self

    def wait(self):
        """It is there once it is started."""

    def kill(self):
        if self.server is not None:
            self.server.stop(0).wait()

    def ModelConfig(self, request, context):
        if request.name not in self.models:
            context.abort(grpc.StatusCode.NOT_FOUND, f"Request for unknown model: {request.name}")
        return service_pb2.ModelConfigResponse(config=self.models[request.name].config)

    def ModelInfer(self, request, context):
        model = self.models[request.model_name]
        feeds = {
            tensor.name: np.frombuffer(raw, TYPES[tensor.datatype]).reshape(tensor.shape)
            for tensor, raw in zip(request.inputs, request.raw_input_contents, strict=True)
        }
        said = request.parameters
        sequence, start = said["sequence_id"].int64_param, said["sequence_start"].bool_param
        if model.states and not start and sequence not in model.kept:
            refusal = (
                f"inference request for sequence {sequence} to model '{request.model_name}' must "
                "specify the START flag on the first request of the sequence"
            )
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, refusal)
        results = model.run(feeds, sequence, start, said["sequence_end"].bool_param)
        response = service_pb2.ModelInferResponse(model_name=request.model_name)
        for name, values in results.items():
            response.outputs.add(name=name, datatype="FP32", shape=values.shape)
            response.raw_output_contents.append(values.tobytes())
        return response
