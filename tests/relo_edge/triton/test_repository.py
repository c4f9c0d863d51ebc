"""What `relo-edge triton` writes: read back through Triton's own schema, against the graphs."""

import json

import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2 as schema
from verbs import run_verb

from relo_edge.errors import BundleError, InputError, MissingDependency, PrecisionError
from relo_edge.pipeline import write_model_repository
from relo_edge.spec import VARIANTS, TrackerProtocol
from relo_edge.triton.configuration import (
    ServedModel,
    ServingOptions,
    describe_sequence_model,
    describe_template_model,
)

PROTOCOL = TrackerProtocol(2.0)


def read_configuration(repository, name):
    text = (repository / name / "config.pbtxt").read_text()
    return text_format.Parse(text, schema.ModelConfig())


@pytest.fixture
def repository(small_bundle, tmp_path):
    write_model_repository(small_bundle, tmp_path / "repository")
    return tmp_path / "repository"


def describe(variant="t256", dtype="float32", **options):
    model = ServedModel("relo", VARIANTS[variant], "fp32", dtype, PROTOCOL, "0")
    return describe_sequence_model(model, ServingOptions(**options))


def test_the_model_that_follows(repository):
    config = read_configuration(repository, "relo-small")
    assert config.name == "relo-small"
    assert config.backend == "onnxruntime"
    assert config.max_batch_size == 8
    assert (repository / "relo-small" / "1" / config.default_model_filename).is_file()
    batching = config.sequence_batching
    assert batching.oldest.max_candidate_sequences == 64
    (control,) = batching.control_input
    assert control.name == "start"
    assert control.control[0].kind == schema.ModelSequenceBatching.Control.CONTROL_SEQUENCE_START
    assert list(control.control[0].fp32_false_true) == [0, 1]
    assert [state.input_name for state in batching.state] == [
        "temporal_tokens",
        "temporal_tokens_before",
    ]
    for state in batching.state:
        assert state.output_name == f"{state.input_name}_out"
        assert state.use_same_buffer_for_input_output
        assert state.initial_state[0].zero_data
        assert list(state.initial_state[0].dims) == list(state.dims)
    # A sequence that has just begun has no state to warm up with, and loading would fail.
    assert not config.model_warmup


def test_the_model_of_templates_is_warmed_up(repository):
    config = read_configuration(repository, "relo-small_template")
    assert config.WhichOneof("scheduling_choice") == "dynamic_batching"
    (warm,) = config.model_warmup
    assert {name: list(value.dims) for name, value in warm.inputs.items()} == {
        tensor.name: list(tensor.dims) for tensor in config.input
    }


def test_direct_gives_each_stream_a_row():
    batching = describe(strategy="direct").sequence_batching
    assert batching.WhichOneof("strategy_choice") == "direct"


def test_a_family_without_a_state_has_no_sequences():
    config = describe("sutrack-t224")
    assert config.WhichOneof("scheduling_choice") == "dynamic_batching"
    assert {tensor.name for tensor in config.input} == {"search", "template_tokens", "text_shift"}
    assert {tensor.name for tensor in config.output} == {"box", "score", "score_map"}


def test_more_streams_can_be_open():
    assert describe(streams=500).sequence_batching.oldest.max_candidate_sequences == 500


def test_a_state_in_half_precision_is_declared_so():
    for state in describe(dtype="float16").sequence_batching.state:
        assert state.data_type == schema.TYPE_FP16
        assert state.initial_state[0].data_type == schema.TYPE_FP16


def test_tensorrt_runs_plans_on_a_gpu():
    config = describe(backend="tensorrt")
    assert config.default_model_filename == "model.plan"
    assert config.instance_group[0].kind == schema.ModelInstanceGroup.KIND_GPU
    model = ServedModel("relo", VARIANTS["t256"], "fp32", "float32", PROTOCOL, "0")
    assert describe_template_model(model, ServingOptions("tensorrt")).backend == "tensorrt"


def test_plans_are_built_beside_the_server(small_bundle, tmp_path, capsys):
    output = tmp_path / "repository"
    words = ["triton", small_bundle.path, "-o", output, "--backend", "tensorrt", "--batch", "4"]
    code, out, err = run_verb(capsys, *words)
    assert code == 0, err
    assert "not run here" in out
    script = (output / "build_plans.sh").read_text()
    assert f"sh {output / 'build_plans.sh'}" in out
    assert "--stronglyTyped" in script
    assert "--maxShapes=search:4x128x128x3," in script
    assert "start:4x1" in script
    assert (output / "relo-small" / "1" / "model.onnx").is_file()
    assert not list(output.rglob("*.plan"))
    code, _, err = run_verb(capsys, *words, "--force")
    assert code == 0, err


def test_what_a_client_must_know_is_in_the_configuration(repository, small_bundle):
    text = read_configuration(repository, "relo-small").parameters["relo_edge"].string_value
    model = ServedModel.from_json("relo-small", text)
    assert model.variant == small_bundle.variant
    assert model.protocol == small_bundle.variant.protocol()
    assert model.key == small_bundle.key


def test_json_for_programs(small_bundle, tmp_path, capsys):
    output = tmp_path / "repository"
    code, out, err = run_verb(capsys, "triton", small_bundle.path, "-o", output, "--json")
    assert code == 0, err
    plain = json.loads(out)
    assert plain["models"] == ["relo-small", "relo-small_template"]
    assert plain["run"] is False


def test_a_repository_is_replaced_only_when_asked(repository, small_bundle):
    with pytest.raises(InputError, match="--force"):
        write_model_repository(small_bundle, repository)
    write_model_repository(small_bundle, repository, name="other", replace=True)
    assert {path.name for path in repository.iterdir()} == {"other", "other_template"}


@pytest.mark.parametrize("replace", [False, True])
def test_what_is_no_repository_is_never_replaced(small_bundle, tmp_path, replace):
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "dear.txt").write_text("mine")
    with pytest.raises(InputError, match="a folder of other things"):
        write_model_repository(small_bundle, tmp_path, replace=replace)
    file = tmp_path / "letters" / "dear.txt"
    with pytest.raises(InputError, match="a file"):
        write_model_repository(small_bundle, file, replace=replace)
    assert file.read_text() == "mine"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"backend": "pytorch"}, "onnxruntime | tensorrt"),
        ({"strategy": "newest"}, "oldest | direct"),
        ({"batch": 0}, "batch: found 0"),
        ({"streams": -1}, "streams: found -1"),
        ({"protocol": "mine"}, "protocol: found mine"),
        ({"name": "../up"}, "model name"),
        ({"name": ""}, "model name"),
    ],
)
def test_a_wrong_option_leaves_nothing(small_bundle, tmp_path, options, message):
    with pytest.raises(InputError) as refused:
        write_model_repository(small_bundle, tmp_path / "repository", **options)
    assert message in str(refused.value)
    assert not (tmp_path / "repository").exists()


def test_a_precision_that_is_not_there(small_bundle, tmp_path):
    with pytest.raises(BundleError, match="relo-edge quantize"):
        write_model_repository(small_bundle, tmp_path / "repository", "int8")
    with pytest.raises(PrecisionError, match="--backend tensorrt"):
        write_model_repository(small_bundle, tmp_path / "repository", "fp8")
    assert not (tmp_path / "repository").exists()


def test_without_tritonclient_the_extra_is_named(small_bundle, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "tritonclient.grpc", None)
    with pytest.raises(MissingDependency, match=r"relo-edge\[triton\]"):
        write_model_repository(small_bundle, tmp_path / "repository")
    assert not (tmp_path / "repository").exists()
