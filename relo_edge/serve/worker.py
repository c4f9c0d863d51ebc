"""The thread that reads, tracks and records; whatever pages ask for happens here, in turn."""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any, Literal

from relo_edge.errors import InputError, ReloError, SourceError
from relo_edge.serve.commands import Command
from relo_edge.serve.named_targets import Roster
from relo_edge.serve.recordings import SavedTake, Takes
from relo_edge.serve.snapshots import Shot
from relo_edge.serve.stage_times import Meter
from relo_edge.tracking.targets import Start
from relo_edge.video.live import LiveFrame, LiveReader

__all__ = ["Phase", "TrackingThread"]

log = logging.getLogger("relo_edge")

Phase = Literal["running", "paused", "ended", "failed"]

WAIT = 0.05
"""Seconds that a command waits at most for a source that gives nothing."""

COMMANDS_WAITING = 32

OVER = "the server is closing"


class TrackingThread:
    """Owns source, tracker and recordings; pages reach it by `submit` and hear by callbacks."""

    def __init__(
        self,
        open_reader: Callable[[], LiveReader],
        open_roster: Callable[[], Roster],
        takes: Takes,
        starts: Sequence[Start] = (),
    ) -> None:
        self._open_reader, self._open_roster = open_reader, open_roster
        self.takes, self._starts = takes, starts
        self.meter = Meter()
        self.on_shot: Callable[[Shot], object] = lambda _: None
        self.on_note: Callable[[dict[str, Any]], object] = lambda _: None
        self.failure: Exception | None = None
        """What ended the thread, should anything have."""
        self.frames = 0
        """Frames that were read and followed."""
        self._commands: queue.Queue[tuple[Command, Shot | None, Future[None]]]
        self._commands = queue.Queue(COMMANDS_WAITING)
        self._opened: Future[None] = Future()
        self._saving: dict[str, Future[None]] = {}
        """Whoever ended a recording and waits for its files."""
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="relo-edge-tracking")
        self._phase: Phase = "running"
        self._notice: str | None = None
        self._reader: LiveReader | None = None
        self._frame: LiveFrame | None = None
        self._shots = 0
        self._due = 0.0
        self._told: dict[str, Any] = {}

    def start(self) -> None:
        """Begin; returns once source and tracker are open, or raises what keeps them shut."""
        self._thread.start()
        self._opened.result()

    def submit(self, command: Command, shot: Shot | None = None) -> Future[None]:
        """Have a command done between two frames; its future tells how it went."""
        done: Future[None] = Future()
        try:
            self._commands.put_nowait((command, shot, done))
        except queue.Full:
            done.set_exception(InputError("too many commands are waiting", fix="try again"))
        if not self.alive:
            self._refuse_waiting()
        return done

    @property
    def alive(self) -> bool:
        """False once it has ended, wanted or not."""
        return self._thread.is_alive()

    @property
    def reconnects(self) -> int:
        """How often the source came back by itself since it was last opened."""
        return self._reader.reconnects if self._reader else 0

    @property
    def state(self) -> dict[str, Any]:
        """What every page has to know, as last announced."""
        return self._told

    def close(self) -> None:
        """End the thread: recordings whole, source and runtime given back; twice is fine."""
        self._closing.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        # Opened here: what belongs to a GPU may belong to the thread that opened it.
        with contextlib.ExitStack() as stack:
            try:
                stack.callback(self._close_reader)
                self._connect()
                self._roster = self._open_roster()
                stack.callback(self._roster.runtime.close)
                stack.callback(lambda: self._note_saved(self.takes.close()))
                self._first_frame()
                self._announce()
            except Exception as error:
                self._opened.set_exception(error)
                return
            self._opened.set_result(None)
            stack.callback(self._refuse_waiting)
            try:
                while not self._closing.is_set():
                    self._turn()
            except Exception as error:
                self.failure = error

    def _turn(self) -> None:
        """Commands first, then a frame; without frames to take, wait for a command."""
        self._obey_waiting()
        if self._phase == "running":
            self._take_frame()
        else:
            with contextlib.suppress(queue.Empty):
                self._obey(*self._commands.get(timeout=WAIT))
        self._note_saved(self.takes.collect())
        self._announce()
        if self._phase == "running" and (sample := self.meter.take_sample()):
            self.on_note({"type": "sample", **sample})

    # Frames

    def _connect(self) -> None:
        """Open the source, anew if it is open."""
        self._close_reader()
        self._reader = self._open_reader().__enter__()
        self._due = 0.0

    def _close_reader(self) -> None:
        if self._reader is not None:
            self._reader.close()
            self._reader = None

    def _first_frame(self) -> None:
        """Show the first frame; a file in which nothing is followed yet waits there."""
        assert self._reader is not None
        frame = None
        while frame is None and not self._reader.over and not self._closing.is_set():
            frame = self._reader.read(WAIT)
        if frame is None:
            raise SourceError(f"{self._reader.name}", found="no frame", expected="one or more")
        self._frame = frame
        for start in self._starts:
            self._roster.add(frame.image, start.box, start.name)
        self._phase = "running" if self._starts or self._reader.live else "paused"
        self._show()

    def _take_frame(self) -> None:
        if self._reader is None:
            return
        if not self._reader.live and (early := self._due - time.monotonic()) > 0:
            self._closing.wait(min(early, WAIT))
            if early > WAIT:
                return
        try:
            frame = self._read_newest(self._reader)
        except ReloError as error:
            self._halt("failed", str(error))
            return
        if frame is not None:
            now = time.monotonic()
            self._due = max(self._due + 1 / self._reader.fps, now)
            self.meter.note("wait", now - frame.captured)
            self._follow(frame)
        elif self._reader.over:
            self._halt("ended", None)

    def _read_newest(self, reader: LiveReader) -> LiveFrame | None:
        """A camera's last frame, a file's next."""
        frame = reader.read(WAIT)
        while frame is not None and reader.live and (newer := reader.read(0)) is not None:
            frame = newer
        return frame

    def _follow(self, frame: LiveFrame) -> None:
        """Where everything is in this frame; shown, and recorded if that is wanted."""
        if self._frame is not None and frame.image.shape != self._frame.image.shape:
            self._drop_targets("the picture's size changed")
        self._frame = frame
        self._update(frame)
        self.meter.count_frame()
        self.frames += 1
        self._show()
        self.takes.write(frame, self._roster.list_tracks(), self.meter.fps)

    def _update(self, frame: LiveFrame) -> None:
        if not self._roster.names:
            return
        start = time.perf_counter()
        try:
            self._roster.update(frame.image)
        except ReloError as error:
            self._drop_targets(str(error))
            return
        network = self._roster.network_seconds
        self.meter.note("network", network)
        self.meter.note("crop", time.perf_counter() - start - network)

    def _note_saved(self, saved: Sequence[SavedTake]) -> None:
        """Answer those who ended a recording; what failed and nobody waits for is said to all."""
        for name, failure in saved:
            if failure is not None and name not in self._saving:
                self._say(f"the recording ended: {failure}")
            if not isinstance(failure, ReloError | None):
                self.failure = self.failure or failure
                self._closing.set()
        if saved:
            self._announce()
        for name, failure in saved:
            done = self._saving.pop(name, None)
            if done and failure:
                done.set_exception(failure)
            elif done:
                done.set_result(None)

    def _halt(self, phase: Phase, problem: str | None) -> None:
        """The source is over: what is recorded is finished, the last picture stays."""
        self._phase = phase
        if problem:
            self._say(problem)
        if self.takes.current:
            self.takes.stop()

    def _drop_targets(self, why: str) -> None:
        if self._roster.names:
            self._roster.clear()
            self._say(f"all targets were removed: {why}")

    # Commands

    def _obey_waiting(self) -> None:
        with contextlib.suppress(queue.Empty):
            while True:
                self._obey(*self._commands.get_nowait())

    def _obey(self, command: Command, shot: Shot | None, done: Future[None]) -> None:
        ending = command.do == "stop-recording"
        try:
            if ending:
                self._saving[self.takes.stop()] = done
            else:
                self._act(command, shot)
        except ReloError as error:
            done.set_exception(error)
        except BaseException:
            done.set_exception(InputError(OVER))
            raise
        else:
            self._notice = None
            self._announce()  # so that whoever is answered knows the state already
            if not ending:
                done.set_result(None)

    def _act(self, command: Command, shot: Shot | None) -> None:
        match command.do:
            case "add":
                self._add(command, shot)
            case "remove" if command.target is not None:
                self._roster.remove(command.target)
                self._show()
            case "clear":
                self._roster.clear()
                self._show()
            case "pause":
                self._change_phase("running", "paused")
            case "resume":
                self._change_phase("paused", "running")
            case "restart":
                self._restart()
            case "record":
                self._start_recording()

    def _add(self, command: Command, shot: Shot | None) -> None:
        if shot is None or command.box is None:
            raise InputError(
                f"picture {command.picture}", found="a picture that is gone", fix="draw it again"
            )
        if self._frame is None or shot.image.shape != self._frame.image.shape:
            raise InputError("the picture's size has changed", fix="draw it again")
        self._roster.add(shot.image, command.box)
        self._show()

    def _change_phase(self, before: Phase, after: Phase) -> None:
        if self._phase not in (before, after):
            raise InputError(f"source {self._phase}", expected=before, fix="restart it")
        self._phase = after

    def _restart(self) -> None:
        """The source from its start; what was given on the command line is followed again."""
        self._roster.clear()
        self._frame = None
        try:
            self._connect()
            self._first_frame()
        except ReloError as error:
            self._halt("failed", str(error))
            raise

    def _start_recording(self) -> None:
        if self._phase not in ("running", "paused") or self._reader is None:
            raise InputError(f"source {self._phase}", expected="a running one", fix="restart it")
        self.takes.start(self._reader.name, self._reader.fps)

    def _refuse_waiting(self) -> None:
        with contextlib.suppress(queue.Empty):
            while True:
                self._commands.get_nowait()[2].set_exception(InputError(OVER))

    # What pages hear

    def _show(self) -> None:
        if self._frame is not None:
            self._shots += 1
            tracks = self._roster.list_tracks()
            self.on_shot(Shot(self._shots, self._frame.image, self._frame.captured, tracks))

    def _say(self, problem: str) -> None:
        self._notice = problem
        log.warning("%s", problem)

    def _announce(self) -> None:
        """Tell every page, when there is anything new."""
        state = self._describe()
        if state != self._told:
            self._told = state
            self.on_note(state)

    def _describe(self) -> dict[str, Any]:
        reader, runtime = self._reader, self._roster.runtime
        phase: str = self._phase
        if reader is not None and phase == "running" and reader.state != "closed":
            phase = reader.state if reader.state in ("stalled", "reconnecting") else phase
        return {
            "type": "state",
            "source": reader.name if reader else self._told.get("source", ""),
            "live": reader.live if reader else self._told.get("live", True),
            "phase": phase,
            "notice": self._notice,
            "targets": [{"target": n, "name": name} for n, name in self._roster.names.items()],
            "most_targets": runtime.batch,
            "runtime": f"{runtime.name}, {runtime.precision} on {runtime.device}",
            "recording": self.takes.current,
            "saving": self.takes.saving,
            "files": self.takes.files,
        }
