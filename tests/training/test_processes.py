"""Several processes train as one: the same loss and the same weights as one with all the clips."""

import os
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
import torch
from small_training import SMALL, small_atlas, small_network

from relo_edge.errors import InputError
from relo_edge.training.checkpointing import RunState
from relo_edge.training.loop import LoopSettings, run_loop
from relo_edge.training.processes import Processes, join_processes
from relo_edge.training.render import Jitter
from relo_edge.training.slt import SequenceLevel
from relo_edge.training.synthetic_batches import ClipSettings, count_items, stream_sequences


def train_sequences(folder, processes, parts, accumulate, steps=2):
    network = small_network()
    run_state = RunState(Path(folder), "slt", {})
    clips = ClipSettings(4 // parts, 2, Jitter(), 3, parts=parts, intervals=3)
    settings = LoopSettings(
        steps, 1e-3, warm_steps=1, log_every=1, half=False, accumulate=accumulate, seed=5
    )
    items = count_items(parts, 0, processes.rank, processes.world)
    with closing(stream_sequences(small_atlas(), SMALL, clips, items)) as stream:
        run_loop(network, SequenceLevel(), stream, settings, run_state, processes)
    return network


TWO = """
import sys
from pathlib import Path
sys.path[:0] = [sys.argv[2], sys.argv[3]]
import torch
torch.set_num_threads(1)
from test_processes import train_sequences
from relo_edge.training.processes import join_processes
with join_processes() as processes:
    assert processes.world == 2
    train_sequences(sys.argv[1], processes, parts=2, accumulate=1)
"""


def read_log(folder):
    head, *rows = (Path(folder) / "slt-log.csv").read_text().splitlines()
    names = head.split(",")
    skipped = ("hours", "clips_per_second")
    values = [dict(zip(names, map(float, row.split(",")), strict=True)) for row in rows]
    return [{k: v for k, v in one.items() if k not in skipped} for one in values]


@pytest.mark.slow
def test_two_processes_train_as_one_with_the_same_clips(tmp_path):
    here = Path(__file__).parent
    together, alone = tmp_path / "two", tmp_path / "one"
    together.mkdir()
    alone.mkdir()
    script = tmp_path / "two.py"
    script.write_text(TWO)
    words = ["--standalone", "--nproc_per_node=2", script, together, here, here.parent / "helpers"]
    subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", *map(str, words)],
        check=True,
        timeout=300,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    network = train_sequences(alone, Processes(), parts=2, accumulate=2)
    for one, two in zip(read_log(alone), read_log(together), strict=True):
        assert one == pytest.approx(two, rel=1e-3, abs=1e-4)
    saved = torch.load(together / "slt-checkpoint.pt", weights_only=True)
    assert saved["clips"] == 8
    for name, value in network.state_dict().items():
        assert torch.allclose(value.float(), saved["net"][name].float(), atol=2e-4), name


def test_parts_of_a_step_are_shared_out_and_none_twice():
    def take(rank, world, first):
        items = count_items(4, first, rank, world)
        return [next(items) for _ in range(4)]

    assert take(0, 1, 3) == [12, 13, 14, 15]
    assert sorted(take(0, 2, 0) + take(1, 2, 0)) == list(range(8))
    assert {item // 4 for item in take(1, 2, 5)[:2]} == {5}


def test_a_process_alone_needs_no_one(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with join_processes() as processes:
        assert (processes.rank, processes.world, processes.leads) == (0, 1, True)
        assert not processes.any(False)
        assert processes.any(True)


def test_a_broken_environment_is_named(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "two")
    with (
        pytest.raises(InputError, match="environment variable WORLD_SIZE: found two"),
        join_processes(),
    ):
        pass
