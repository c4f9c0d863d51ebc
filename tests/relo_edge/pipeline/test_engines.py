"""What is said once engines are built: the verdict on INT8, and where there is nothing to say."""

import pytest

from relo_edge.pipeline.engines import EngineReport, Measured, judge_speed


class Part:
    def __init__(self, name):
        self.name = name

    def to_dict(self):
        return {"name": self.name}

    def describe(self):
        return f"all about {self.name}"


@pytest.mark.parametrize(
    ("milliseconds", "verdict"),
    [
        ({"fp16": 1.21, "int8": 1.0}, "INT8 is 1.21 x FP16 here"),
        ({"fp16": 1.0, "int8": 1.02}, "use FP16: INT8 is no faster on this GPU (0.98 x)"),
        ({"fp16": 1.04, "int8": 1.0}, "use FP16: INT8 is no faster on this GPU (1.04 x)"),
        ({"fp16": 1.0, "fp32": 2.0}, "build --int8 too"),
        ({"int8": 1.0}, "build --fp16 too"),
    ],
)
def test_the_verdict_follows_the_ratio(milliseconds, verdict):
    assert judge_speed(milliseconds).startswith(verdict)


def test_the_verdict_says_for_which_batch_it_holds():
    assert judge_speed({"fp16": 2.0, "int8": 1.0}, 4) == "INT8 is 2.00 x FP16 here at batch 4"
    assert "on this GPU at batch 4" in judge_speed({"fp16": 1.0, "int8": 1.0}, 4)
    assert judge_speed({"fp16": 1.0}, 4).startswith("build --int8 --batch 4 too")


def test_without_a_gpu_there_is_only_the_build():
    report = EngineReport(Part("build"), None)
    assert report.to_dict() == {"name": "build"}
    assert report.describe() == "all about build"


def test_with_one_everything_is_told():
    times = {"fp16": 2.0, "int8": 1.0}
    measured = Measured(Part("parity"), True, Part("speed"), times, Part("layers"))
    report = EngineReport(Part("build"), measured)
    lines = report.describe().splitlines()
    assert lines[0] == "all about build"
    assert lines[-1] == report.to_dict()["verdict"] == "INT8 is 2.00 x FP16 here"
    assert report.to_dict()["layers"] == {"name": "layers"}
