"""A runtime with one fault in it, and graphs with one fault in them."""

import json
import shutil
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from rollouts import OUTPUTS

from relo_edge.bundle import describe_files, open_bundle, write_manifest
from relo_edge.graphs.sessions import open_session
from relo_edge.runtimes.one_by_one import SlotwiseRuntime


@dataclass(frozen=True)
class Hooks:
    """Where a fault can be put into a runtime; what is None is done right."""

    search: Any = None
    """crop → crop"""
    template: Any = None
    box: Any = None
    """The template's box → the box"""
    window: Any = None
    """(window, the one before) → window"""
    state: Any = None
    """(the target's states so far, its history flag) → (state, flag)"""
    answer: Any = None
    """(box, score, logits, window, search, number of the step) → box, score, logits"""
    late_template: bool = False
    """A template is only taken over with the next target."""
    first_template_only: bool = False
    forgets: bool = True
    rewinds: bool = True
    slots: str = ""
    """"swapped answers", "swapped states" or "one state"."""


class FaultyRuntime(SlotwiseRuntime):
    """onnxruntime on a bundle's float graphs, with hooks."""

    name, precision = "faulty", "fp32"

    def __init__(self, bundle, hooks=None, batch=2):
        super().__init__(bundle.variant, batch, "float32")
        self._hooks = hooks or Hooks()
        self._template = open_session(bundle.graph("template", "fp32"), batch=1, threads=1)
        self._graph = open_session(bundle.graph("step", "fp32"), batch=1, threads=1)
        self._before = None
        self._count = 0
        self._past = [[] for _ in range(batch)]
        self._encoded = set()
        self._waiting = []

    def encode_template(self, slot, index, template, box):
        known = (slot, index) in self._encoded
        if self._hooks.first_template_only and known:
            return
        self._encoded.add((slot, index))
        if self._hooks.late_template:
            self._waiting.append((slot, index, template, box))
        else:
            super().encode_template(slot, index, template, box)

    def forget(self, slot):
        for waiting in self._waiting:
            super().encode_template(*waiting)
        self._waiting = []
        if self._hooks.forgets:
            self._past[slot] = []
            super().forget(slot)

    def rewind(self, slot):
        if self._hooks.rewinds:
            self._past[slot].pop()
            super().rewind(slot)

    def step(self, slots, searches, window):
        if self._hooks.slots == "swapped states" and len(slots) == 2:
            one, two = self._slots
            one.states, two.states = two.states, one.states
        answer = super().step(slots, searches, window)
        if self._hooks.slots == "one state":
            for slot in self._slots:
                slot.states[slot.turn] = self._find(slots[-1]).states[self._find(slots[-1]).turn]
        if self._hooks.slots == "swapped answers" and len(slots) == 2:
            for values in (answer.boxes, answer.scores, answer.maps):
                values[:] = values[::-1].copy()
        return answer

    def _run_template(self, feeds):
        template, box = feeds["template"], feeds["box"]
        if self._hooks.template:
            template = np.ascontiguousarray(self._hooks.template(template[0])[None], np.uint8)
        if self._hooks.box:
            box = np.float32(self._hooks.box(box[0]))[None]
        tokens = self._template.run(None, {"template": template, "box": box})[0]
        return {"template_tokens": tokens}

    def _run_step(self, slot, feeds):
        place, search, window = self._slots.index(slot), feeds["search"], feeds["window"]
        if self._hooks.search:
            search = np.ascontiguousarray(self._hooks.search(search[0])[None], np.uint8)
        used = window
        if self._hooks.window:
            used = np.float32(self._hooks.window(window, self._before))
        self._before = window
        state, flag = feeds["temporal_tokens"], slot.has_history
        if self._hooks.state:
            state, flag = self._hooks.state(self._past[place], flag)
            state = np.zeros_like(feeds["temporal_tokens"]) if state is None else np.float32(state)
        feeds |= {
            "search": search,
            "temporal_tokens": state,
            "has_history": np.float32(flag),
            "window": np.ascontiguousarray(used),
        }
        box, score, logits, out = self._graph.run(OUTPUTS, feeds)
        slot.next_state["temporal_tokens"] = out
        self._past[place].append(out)
        self._count += 1
        if self._hooks.answer:
            box, score, logits = self._hooks.answer(box, score, logits, window, search, self._count)
        return {"box": box, "score": score, "policy_logits": logits}


def tamper(bundle, folder, **changes):
    """A bundle whose graphs were changed and published as though nothing were wrong."""
    shutil.copytree(bundle.path, folder)
    for name, change in changes.items():
        model = onnx.load(folder / f"{name}.onnx")
        change(model)
        onnx.save(model, folder / f"{name}.onnx")
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"] |= describe_files(folder, "template.onnx", "step.onnx")
    write_manifest(folder, manifest)
    return open_bundle(folder)
