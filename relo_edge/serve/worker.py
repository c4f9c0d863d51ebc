"""The thread that reads, tracks and records; the pages' commands run here, one by one."""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from typing import Any, Literal

from relo_edge.errors import InputError, ReloError, SourceError
from relo_edge.serve.commands import Command
from relo_edge.serve.named_targets import NamedTargets
from relo_edge.serve.page_state import describe_state
from relo_edge.serve.recordings import FinishedRecording, Recordings
from relo_edge.serve.snapshots import Snapshot
from relo_edge.serve.stage_times import StageTimes
from relo_edge.streams.metrics import SourceMeter
from relo_edge.tracking.targets import TargetStart
from relo_edge.video.live import LiveFrame, LiveReader

__all__ = ["Phase", "TrackingWorker"]

log = logging.getLogger("relo_edge")

Phase = Literal["running", "paused", "ended", "failed"]

POLL_SECONDS = 0.05
"""How long a command waits at most for a source that gives nothing."""

MAX_QUEUED_COMMANDS = 32

CLOSING = "the server is closing"


class TrackingWorker:
    """Owns source, tracker and recordings; pages reach it by `submit` and get callbacks.

    With a name it is one of several: neither a silent source nor a missing one ends the others.
    """

    def __init__(
        self,
        open_reader: Callable[[], LiveReader],
        open_targets: Callable[[], NamedTargets],
        recordings: Recordings,
        starts: Sequence[TargetStart] = (),
        *,
        name: str | None = None,
        meter: SourceMeter | None = None,
    ) -> None:
        self._open_reader, self._open_targets = open_reader, open_targets
        self.recordings, self._starts = recordings, starts
        self._waiting: list[TargetStart] = []
        """Those that start in the first frame, which has not come yet."""
        self._name, self._meter = name, meter
        self.times = StageTimes(meter)
        self.on_snapshot: Callable[[Snapshot], object] = lambda _: None
        self.on_event: Callable[[dict[str, Any]], object] = lambda _: None
        self.failure: Exception | None = None
        """The error that ended the thread, if one did."""
        self.frames = 0
        """Frames read and tracked."""
        self._commands: queue.Queue[tuple[Command, Snapshot | None, Future[None]]]
        self._commands = queue.Queue(MAX_QUEUED_COMMANDS)
        self._opened: Future[None] = Future()
        self._saving: dict[str, Future[None]] = {}
        """By recording: the command that ended it and is answered once it is saved."""
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="relo-edge-tracking")
        self._phase: Phase = "running"
        self._resumed = 0.0
        self._notice: str | None = None
        self._reader: LiveReader | None = None
        self._frame: LiveFrame | None = None
        self._snapshots = 0
        self._due = 0.0
        self._announced: dict[str, Any] = {}

    def start(self) -> None:
        """Start the thread; `wait_opened` says what came of it."""
        self._thread.start()

    def wait_opened(self) -> None:
        """Return once source and tracker are open, or raise why not."""
        self._opened.result()

    def submit(self, command: Command, snapshot: Snapshot | None = None) -> Future[None]:
        """Run a command between two frames; its future holds the outcome."""
        done: Future[None] = Future()
        try:
            self._commands.put_nowait((command, snapshot, done))
        except queue.Full:
            done.set_exception(InputError("too many commands are waiting", fix="try again"))
        if not self.alive:
            self._refuse_queued()
        return done

    @property
    def alive(self) -> bool:
        """False once the thread has ended, for whatever reason."""
        return self._thread.is_alive()

    @property
    def ready(self) -> bool:
        """Whether the source gives frames, or has been paused."""
        return self.alive and self._announced.get("phase") in ("running", "paused")

    @property
    def reconnects(self) -> int:
        """How often the source came back by itself since it was last opened."""
        return self._reader.reconnects if self._reader else 0

    @property
    def state(self) -> dict[str, Any]:
        """The state event that was last sent to every page."""
        return self._announced

    def close(self) -> None:
        """End the thread: recordings finished, source and runtime closed; twice is fine."""
        self._closing.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        # Opened here: a GPU context may belong to the thread that created it.
        with contextlib.ExitStack() as stack:
            try:
                stack.callback(self._close_reader)
                with self._outlive_source():
                    self._connect()
                self._targets = self._open_targets()
                stack.callback(self._targets.runtime.close)
                stack.callback(lambda: self._report_saved(self.recordings.close()))
                with self._outlive_source():
                    self._show_first_frame()
                self._announce()
            except Exception as error:
                self._opened.set_exception(error)
                return
            self._opened.set_result(None)
            stack.callback(self._refuse_queued)
            try:
                while not self._closing.is_set():
                    self._run_once()
            except Exception as error:
                self.failure = error

    @contextlib.contextmanager
    def _outlive_source(self) -> Iterator[None]:
        """One of several sources may be away when the server starts; it can be restarted."""
        try:
            yield
        except SourceError as error:
            if self._name is None:
                raise
            self._stop_source("failed", str(error))

    def _run_once(self) -> None:
        """Commands first, then a frame; while no frame is due, wait for a command."""
        self._run_queued()
        if self._phase == "running":
            self._read_frame()
        else:
            with contextlib.suppress(queue.Empty):
                self._execute(*self._commands.get(timeout=POLL_SECONDS))
        self._report_saved(self.recordings.collect())
        self._announce()
        if self._phase == "running" and (sample := self.times.take_sample()):
            self.on_event({"type": "sample", **sample})

    # Frames

    def _connect(self) -> None:
        """Open the source; one that is open is closed first."""
        self._close_reader()
        self._reader = self._open_reader().__enter__()
        self._due = 0.0
        if self._meter:
            self._meter.watch(self._reader)

    def _close_reader(self) -> None:
        self._frame = None  # of a source that goes nothing large may wait for the garbage collector
        if self._reader is not None:
            self._reader.close()
            self._reader = None

    def _show_first_frame(self) -> None:
        """Show the first frame; a file without targets waits there."""
        if self._reader is None:
            return
        self._waiting = list(self._starts)
        self._phase = "running" if self._starts or self._reader.live else "paused"
        frame = None
        while frame is None and not self._reader.over and not self._closing.is_set():
            frame = self._reader.read(POLL_SECONDS)
            if frame is None and self._name and self._reader.live:
                return  # the others need not wait for a silent camera
        if frame is None:
            raise SourceError(f"{self._reader.name} has no frames")
        self._frame = frame
        self._begin_targets(frame)
        self._show()

    def _begin_targets(self, frame: LiveFrame) -> None:
        while self._waiting:
            start = self._waiting.pop(0)
            self._targets.add(frame.image, start.box, start.name)

    def _read_frame(self) -> None:
        if self._reader is None:
            return
        if not self._reader.live and (early := self._due - time.monotonic()) > 0:
            self._closing.wait(min(early, POLL_SECONDS))
            if early > POLL_SECONDS:
                return
        try:
            frame = self._reader.read_newest(POLL_SECONDS)
        except ReloError as error:
            self._stop_source("failed", str(error))
            return
        if frame is not None:
            now = time.monotonic()
            self._due = max(self._due + 1 / self._reader.fps, now)
            # A frame that was captured during a pause did not wait for the tracker.
            self.times.add("wait", now - max(frame.captured, self._resumed))
            self._process(frame)
        elif self._reader.over:
            self._stop_source("ended", None)

    def _process(self, frame: LiveFrame) -> None:
        """Track all targets into this frame; show it, and record it if a recording runs."""
        if self._frame is not None and frame.image.shape != self._frame.image.shape:
            self._remove_targets("the frame size changed")
        self._frame = frame
        self._update(frame)
        try:
            self._begin_targets(frame)
        except ReloError as error:
            self._set_notice(str(error))
        self.times.count_frame()
        self.frames += 1
        if self._meter:
            tracks = self._targets.list_tracks()
            self._meter.count_frame({track.target: track.track for track in tracks})
        self._show()
        self.recordings.write(frame, self._targets.list_tracks(), self.times.fps)

    def _update(self, frame: LiveFrame) -> None:
        if not self._targets.names:
            return
        start = time.perf_counter()
        try:
            self._targets.update(frame.image)
        except ReloError as error:
            self._remove_targets(str(error))
            return
        network = self._targets.network_seconds
        self.times.add("network", network)
        self.times.add("crop", time.perf_counter() - start - network)

    def _report_saved(self, saved: Sequence[FinishedRecording]) -> None:
        """Answer those who ended a recording; a failure that nobody waits for goes to all."""
        for name, failure in saved:
            if failure is not None and name not in self._saving:
                self._set_notice(f"the recording ended: {failure}")
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

    def _stop_source(self, phase: Phase, problem: str | None) -> None:
        """The source is over: the recording is finished, the last picture stays."""
        self._phase = phase
        if problem:
            self._set_notice(problem)
        if self.recordings.current:
            self.recordings.stop()

    def _remove_targets(self, reason: str) -> None:
        if self._targets.names:
            self._targets.clear()
            self._set_notice(f"all targets were removed: {reason}")

    # Commands

    def _run_queued(self) -> None:
        with contextlib.suppress(queue.Empty):
            while True:
                self._execute(*self._commands.get_nowait())

    def _execute(self, command: Command, snapshot: Snapshot | None, done: Future[None]) -> None:
        stopping = command.do == "stop-recording"
        try:
            if stopping:
                self._saving[self.recordings.stop()] = done
            else:
                self._dispatch(command, snapshot)
        except ReloError as error:
            done.set_exception(error)
        except BaseException:
            done.set_exception(InputError(CLOSING))
            raise
        else:
            self._notice = None
            self._announce()  # the state is sent before the answer
            if not stopping:
                done.set_result(None)

    def _dispatch(self, command: Command, snapshot: Snapshot | None) -> None:
        match command.do:
            case "add":
                self._add(command, snapshot)
            case "remove" if command.target is not None:
                self._targets.remove(command.target)
                self._show()
            case "clear":
                self._targets.clear()
                self._show()
            case "pause":
                self._change_phase("paused")
            case "resume":
                self._change_phase("running")
                self._resumed = time.monotonic()
                self.times.restart()
            case "restart":
                self._restart()
            case "record":
                self._start_recording()

    def _add(self, command: Command, snapshot: Snapshot | None) -> None:
        self._require_source()
        if snapshot is None or command.box is None:
            raise InputError(
                f"picture {command.picture} is not held any more", fix="draw the box again"
            )
        if self._frame is None or snapshot.image.shape != self._frame.image.shape:
            raise InputError("the frame size has changed", fix="draw the box again")
        self._targets.add(snapshot.image, command.box)
        self._show()

    def _require_source(self) -> None:
        if self._phase not in ("running", "paused"):
            raise InputError(f"the source has {self._phase}", fix="restart it")

    def _change_phase(self, phase: Phase) -> None:
        self._require_source()
        self._phase = phase

    def _restart(self) -> None:
        """Reopen the source and start the targets of the command line again."""
        self._targets.clear()
        try:
            self._connect()
            self._show_first_frame()
        except ReloError as error:
            self._stop_source("failed", str(error))
            raise

    def _start_recording(self) -> None:
        self._require_source()
        assert self._reader is not None
        self.recordings.start(self._name or self._reader.name, self._reader.fps)

    def _refuse_queued(self) -> None:
        with contextlib.suppress(queue.Empty):
            while True:
                self._commands.get_nowait()[2].set_exception(InputError(CLOSING))

    # Events

    def _show(self) -> None:
        if self._frame is not None:
            self._snapshots += 1
            captured = max(self._frame.captured, self._resumed)
            tracks = self._targets.list_tracks()
            self.on_snapshot(Snapshot(self._snapshots, self._frame.image, captured, tracks))

    def _set_notice(self, problem: str) -> None:
        self._notice = problem
        log.warning("%s", problem)

    def _announce(self) -> None:
        """Send the state to every page when it has changed."""
        arguments = (self._reader, self._targets, self.recordings, self._announced)
        state = describe_state(self._phase, self._name, self._notice, *arguments)
        if state != self._announced:
            self._announced = state
            self.on_event(state)
