"""A model's config.pbtxt, through Triton's own schema: what that does not know cannot be said."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

from relo_edge.bundle import Bundle
from relo_edge.contract import (
    STEP,
    TEMPLATE,
    GraphContract,
    StateTensor,
    describe_graph,
    list_graphs,
)
from relo_edge.errors import InputError, MissingDependency
from relo_edge.families.motion import Motion
from relo_edge.families.registry import find_family
from relo_edge.spec import TrackerProtocol, TrackerVariant
from relo_edge.triton.model_tensors import (
    PARAMETER,
    START,
    list_inputs,
    list_outputs,
    list_states,
)

__all__ = [
    "BACKENDS",
    "STRATEGIES",
    "ServedModel",
    "ServingOptions",
    "describe_sequence_model",
    "describe_template_model",
    "import_schema",
    "print_configuration",
]

BACKENDS = {"onnxruntime": "model.onnx", "tensorrt": "model.plan"}
"""The file that each backend runs."""
STRATEGIES = ("oldest", "direct")

MICROSECONDS = 1_000_000
IDLE_SECONDS = 60
"""A stream that sends nothing for so long makes room; Triton's own choice is one second, which a
camera that reconnects does not keep."""
QUEUE_MICROSECONDS = 1000
"""How long a frame waits for frames of other streams, so that they are stepped as one batch."""


@dataclass(frozen=True)
class ServingOptions:
    """How a model is served.

    Attributes:
        backend: what runs the graphs: onnxruntime or tensorrt.
        strategy: `oldest` takes frames as they come, from up to `streams` streams; `direct` gives
            each stream a row of the batch for as long as it lives.
        batch: the most streams that are stepped at once.
        streams: the most streams that are open at once with `oldest`; others wait.
        protocol: the tracker settings; their window becomes part of the model.
    """

    backend: str = "onnxruntime"
    strategy: str = "oldest"
    batch: int = 8
    streams: int = 64
    protocol: str = "default"

    def __post_init__(self) -> None:
        if self.backend not in BACKENDS:
            raise InputError("backend", found=self.backend, expected=" | ".join(BACKENDS))
        if self.strategy not in STRATEGIES:
            raise InputError("strategy", found=self.strategy, expected=" | ".join(STRATEGIES))
        for name in ("batch", "streams"):
            if getattr(self, name) < 1:
                raise InputError(name, found=getattr(self, name), expected="1 or more")


@dataclass(frozen=True)
class ServedModel:
    """A bundle at one precision, as a client must know it."""

    name: str
    variant: TrackerVariant
    precision: str
    state_dtype: str
    protocol: TrackerProtocol
    key: str
    """Of the bundle."""

    @classmethod
    def of(
        cls, bundle: Bundle, name: str, precision: str, protocol: str, dtype: str
    ) -> ServedModel:
        """What the bundle is when served under that name."""
        variant = bundle.variant
        return cls(name, variant, precision, dtype, variant.protocol(protocol), bundle.key)

    @property
    def template(self) -> str | None:
        """The name of the model that encodes templates, where there are any."""
        return f"{self.name}_template" if TEMPLATE in list_graphs(self.variant) else None

    @property
    def names(self) -> list[str]:
        """Of the models in the repository."""
        return [name for name in (self.name, self.template) if name]

    @property
    def step(self) -> GraphContract:
        """Of the step graph."""
        return describe_graph(self.variant, STEP, self.state_dtype)

    @property
    def motion(self) -> Motion:
        """How frames become feeds."""
        return find_family(self.variant.family).motion(self.variant, self.protocol)

    def to_json(self) -> str:
        """The parameter of the model's configuration that a client reads."""
        plain = {
            "format": 1,
            "family": self.variant.family,
            "variant": self.variant.to_dict(),
            "precision": self.precision,
            "state_dtype": self.state_dtype,
            "protocol": asdict(self.protocol),
            "key": self.key,
        }
        return json.dumps(plain)

    @classmethod
    def from_json(cls, name: str, text: str) -> ServedModel:
        """What a server says; any exception means that it is none of ours."""
        plain = json.loads(text)
        if plain["format"] != 1:
            raise ValueError(f"format {plain['format']}")
        return cls(
            name,
            find_family(plain["family"]).read_variant(plain["variant"]),
            str(plain["precision"]),
            str(plain["state_dtype"]),
            TrackerProtocol(**plain["protocol"]),
            str(plain["key"]),
        )


def import_schema() -> Any:
    """Triton's `model_config_pb2`.

    Raises:
        MissingDependency: tritonclient is not installed, or does not import.
    """
    try:
        from tritonclient.grpc import model_config_pb2
    except ImportError as error:
        raise MissingDependency(
            "tritonclient does not import", found=error, fix="`pip install 'relo-edge[triton]'`"
        ) from None
    return model_config_pb2


def describe_sequence_model(model: ServedModel, options: ServingOptions) -> Any:
    """The ModelConfig of the model that follows: sequence batching with implicit state.

    A family without a state is batched as frames come, whosever they are.
    """
    schema = import_schema()
    config = _describe_model(schema, model.name, options)
    _add_tensors(schema, config, list_inputs(model.step), list_outputs(model.step))
    config.parameters[PARAMETER].string_value = model.to_json()
    if not model.step.states:
        config.dynamic_batching.max_queue_delay_microseconds = QUEUE_MICROSECONDS
        return config
    batching = config.sequence_batching
    batching.max_sequence_idle_microseconds = IDLE_SECONDS * MICROSECONDS
    control = batching.control_input.add(name=START).control.add()
    control.kind = schema.ModelSequenceBatching.Control.CONTROL_SEQUENCE_START
    control.fp32_false_true.extend([0.0, 1.0])
    for state in list_states(model.step):
        _add_state(schema, batching, state)
    if options.strategy == "direct":
        batching.direct.max_queue_delay_microseconds = QUEUE_MICROSECONDS
    else:
        batching.oldest.max_candidate_sequences = options.streams
        batching.oldest.max_queue_delay_microseconds = QUEUE_MICROSECONDS
    return config


def describe_template_model(model: ServedModel, options: ServingOptions) -> Any:
    """The ModelConfig of the model that encodes templates: no state, and so it can be warmed up."""
    schema = import_schema()
    config = _describe_model(schema, str(model.template), options)
    contract = describe_graph(model.variant, TEMPLATE)
    _add_tensors(schema, config, contract.inputs, contract.outputs)
    config.dynamic_batching.max_queue_delay_microseconds = QUEUE_MICROSECONDS
    warm = config.model_warmup.add(name="one template", batch_size=1)
    for spec in contract.inputs:
        value = warm.inputs[spec.name]
        value.data_type = _find_type(schema, spec.dtype)
        value.dims.extend(spec.shape[1:])
        value.zero_data = True
    return config


def print_configuration(config: Any) -> str:
    """The message as config.pbtxt has it."""
    from google.protobuf import text_format

    return str(text_format.MessageToString(config))


def _describe_model(schema: Any, name: str, options: ServingOptions) -> Any:
    config = schema.ModelConfig(
        name=name,
        backend=options.backend,
        default_model_filename=BACKENDS[options.backend],
        max_batch_size=options.batch,
    )
    kinds = schema.ModelInstanceGroup
    kind = kinds.KIND_GPU if options.backend == "tensorrt" else kinds.KIND_AUTO
    config.instance_group.add(kind=kind, count=1)
    return config


def _add_tensors(schema: Any, config: Any, inputs: Any, outputs: Any) -> None:
    for part, specs in ((config.input, inputs), (config.output, outputs)):
        for spec in specs:
            kind = _find_type(schema, spec.dtype)
            part.add(name=spec.name, data_type=kind, dims=spec.shape[1:])


def _add_state(schema: Any, batching: Any, kept: StateTensor) -> None:
    """A state begins as zeros: what START makes the graph ignore must still be numbers."""
    spec = kept.before
    state = batching.state.add(
        input_name=spec.name,
        output_name=kept.after.name,
        data_type=_find_type(schema, spec.dtype),
        dims=spec.shape[1:],
        use_same_buffer_for_input_output=True,
    )
    state.initial_state.add(
        name=f"zeros of {spec.name}",
        data_type=state.data_type,
        dims=spec.shape[1:],
        zero_data=True,
    )


def _find_type(schema: Any, dtype: str) -> int:
    names = {"float32": "TYPE_FP32", "float16": "TYPE_FP16", "uint8": "TYPE_UINT8"}
    return int(schema.DataType.Value(names[dtype]))
