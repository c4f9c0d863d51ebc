"""The tracker over Triton: crops are cut here, the network and each stream's state are there."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from relo_edge.contract import TEMPLATE, describe_graph
from relo_edge.errors import InputError, MissingDependency, RuntimeUnavailable
from relo_edge.lost import LostRule, Recovery
from relo_edge.remote.remote_runtime import PATIENCE, FrameAnswer, RemoteRuntime, StateLost
from relo_edge.remote.remote_tracker import RemoteTracker
from relo_edge.triton.configuration import ServedModel
from relo_edge.triton.model_tensors import PARAMETER, REWIND, widen
from relo_edge.video.live import ReconnectPolicy

__all__ = ["TritonRuntime", "TritonTracker", "warm_up"]

# What gRPC says where no answer came; whether the request was carried out, nobody knows.
NO_ANSWER = ("UNAVAILABLE", "DEADLINE_EXCEEDED", "CANCELLED")
NO_SEQUENCE = "must specify the START flag"
"""What Triton says of a stream that it does not know, or no more."""
CHANNEL = [
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
]
"""Without the first, a new channel to the same address inherits the failed one's delay."""

Tensors = Mapping[str, NDArray[Any]]


class TritonRuntime(RemoteRuntime):
    """The Runtime protocol over a model that `relo-edge triton` wrote.

    Each slot is a sequence on the server, with a correlation id of its own; a step sends one
    request for each, all at once. Not for several threads.

    Args:
        url: HOST:PORT of the server's gRPC endpoint.
        model: the model's name, as in `relo-t256`.
        batch: the most targets that are followed at once.
        reconnect: how long an answer is waited for (`stall_seconds`), and how often it is asked
            for again.

    Raises:
        InputError: the server has no such model, or not one that relo-edge wrote.
        RuntimeUnavailable: the server does not answer.
        MissingDependency: tritonclient is not installed.
    """

    name = "triton"

    def __init__(
        self, url: str, model: str, *, batch: int = 1, reconnect: ReconnectPolicy | None = None
    ) -> None:
        self._url = url
        self._patience = reconnect or PATIENCE
        self._grpc = _import_client()
        self._client: Any = None
        self._reopen()
        self._model = self._read_model(model)
        self.precision = self._model.precision
        self.device = f"Triton {url}"
        super().__init__(self._model.variant, self._model.protocol, batch, self._patience)
        self._given = self.contract.list_outputs("box", "score", "map")
        self._ids = [_draw_id() for _ in range(batch)]
        self._targets = {
            spec.name: np.zeros(spec.at_batch(batch), spec.dtype)
            for spec in self.contract.list_inputs("target")
        }

    def _read_model(self, name: str) -> ServedModel:
        """What the server's model is of, from its configuration."""
        try:
            config = self._client.get_model_config(
                name, client_timeout=self._patience.stall_seconds
            ).config
        except self._grpc.InferenceServerException as error:
            self._client.close()
            if _read_status(error) in NO_ANSWER:
                raise RuntimeUnavailable(
                    f"Triton {self._url} does not answer",
                    found=error.message(),
                    fix="see whether the server runs, and whether this is its gRPC port",
                ) from None
            raise InputError(
                f"Triton {self._url} does not serve a model {name!r}",
                fix="`relo-edge triton` prints the names of the models that it writes",
            ) from None
        try:
            return ServedModel.from_json(name, config.parameters[PARAMETER].string_value)
        except Exception as error:
            self._client.close()
            raise InputError(
                f"model {name!r} of Triton {self._url} is none that relo-edge wrote",
                found=f"{type(error).__name__}: {error}",
                fix="write it with `relo-edge triton`",
            ) from None

    def _encode(
        self, slot: int, index: int, template: NDArray[np.uint8], box: NDArray[np.float32]
    ) -> None:
        if self._model.template is None:
            raise InputError(f"{self.variant.name} has no templates", fix="set its target tensors")
        graph = describe_graph(self.variant, TEMPLATE)
        (given,) = graph.list_inputs("given")
        values = np.asarray(box, given.dtype)[None]
        sent: Tensors = {graph.pixels.name: template[None], given.name: values}
        answer = self._send(self._model.template, sent).result()
        if isinstance(answer, StateLost | RuntimeUnavailable):
            raise answer
        for spec in graph.outputs:
            part = _read_tensor(answer, spec.name, spec.at_batch(1))[0]
            rows = len(part)
            self._targets[spec.name][slot, index * rows : (index + 1) * rows] = part

    def _set(self, slot: int, name: str, values: NDArray[np.float32]) -> None:
        self._targets[name][slot] = values

    def _ask(
        self, slots: Sequence[int], pixels: NDArray[np.uint8]
    ) -> Sequence[FrameAnswer | StateLost | RuntimeUnavailable]:
        sent = [
            self._send_frame(slot, picture) for slot, picture in zip(slots, pixels, strict=True)
        ]
        return [self._read_answer(future.result()) for future in sent]

    def _send_frame(
        self, slot: int, picture: NDArray[np.uint8], *, end: bool = False
    ) -> Future[Any]:
        kept = self._slots[slot]
        tensors = {self.contract.pixels.name: picture[None]}
        tensors |= {name: values[slot : slot + 1] for name, values in self._targets.items()}
        if not self.contract.states:
            return self._send(self._model.name, tensors)
        tensors[REWIND] = np.full((1, 1), kept.rewound, np.float32)
        return self._send(
            self._model.name,
            tensors,
            sequence_id=self._ids[slot],
            sequence_start=not kept.has_history,
            sequence_end=end,
        )

    def _send(self, model: str, tensors: Tensors, **options: Any) -> Future[Any]:
        """The answer to come: Triton's result, or what its error amounts to."""
        answer: Future[Any] = Future()

        def take(result: Any, error: Any) -> None:
            answer.set_result(result if error is None else self._judge(error))

        inputs = []
        for name, values in tensors.items():
            kind = "UINT8" if values.dtype == np.uint8 else "FP32"
            inputs.append(self._grpc.InferInput(name, list(values.shape), kind))
            inputs[-1].set_data_from_numpy(np.ascontiguousarray(values))
        self._client.async_infer(
            model, inputs, take, client_timeout=self._patience.stall_seconds, **options
        )
        return answer

    def _judge(self, error: Any) -> StateLost | RuntimeUnavailable:
        """What an error means for the stream: patience mends it, or not."""
        message = error.message()
        if _read_status(error) in NO_ANSWER:
            return StateLost(message, unreachable=True)
        if NO_SEQUENCE in message:
            return StateLost("the server does not know the sequence any more", unreachable=False)
        return RuntimeUnavailable(f"{self.device} refuses a request", found=message)

    def _read_answer(self, result: Any) -> FrameAnswer | StateLost | RuntimeUnavailable:
        if isinstance(result, StateLost | RuntimeUnavailable):
            return result
        try:
            return {
                spec.name: _read_tensor(result, spec.name, wide.at_batch(1)).reshape(
                    spec.at_batch(1)
                )[0]
                for spec, wide in zip(self._given, widen(self._given), strict=True)
            }
        except RuntimeUnavailable as error:
            return error

    def _end(self, slots: Sequence[int]) -> None:
        """A sequence ends with a request; the server forgets a stream that could not say so."""
        nothing = np.zeros(self.motion.pixels, np.uint8)
        ended = slots if self.contract.states else []
        for future in [self._send_frame(slot, nothing, end=True) for slot in ended]:
            future.result()
        self._client.close()

    def _reopen(self) -> None:
        """A channel that has failed waits ever longer before it connects again: take a new one."""
        if self._client is not None:
            self._client.close()
        try:
            self._client = self._grpc.InferenceServerClient(self._url, channel_args=CHANNEL)
        except Exception as error:
            raise InputError(
                f"address {self._url!r}", found=error, expected="HOST:PORT of Triton's gRPC"
            ) from None


class TritonTracker(RemoteTracker):
    """One target, followed by a Triton server: `init` on its first box, then `update`.

    Crops are cut here; each frame is one request of the target's own sequence. A server that was
    restarted, or that has forgotten the sequence, is met by starting it again around the last box:
    `RemoteTrack.restarted` says so, and `restarts` counts. Use it in a `with`, or close it.

    Args:
        url: HOST:PORT of the server's gRPC endpoint.
        model: the model's name, as in `relo-t256`.
        color: "bgr" or "rgb", the order of the frames' channels.
        lost_rule: when the target counts as lost.
        recovery: how the lost target is searched for; without one it is not.
        reconnect: how long an answer is waited for (`stall_seconds`), and how often it is asked
            for again.

    Raises:
        InputError: an unknown colour order, or no such model.
        RuntimeUnavailable: the server does not answer.
        MissingDependency: tritonclient is not installed.
    """

    def __init__(
        self,
        url: str,
        model: str,
        *,
        color: Literal["bgr", "rgb"],
        lost_rule: LostRule | None = None,
        recovery: Recovery | None = None,
        reconnect: ReconnectPolicy | None = None,
    ) -> None:
        runtime = TritonRuntime(url, model, reconnect=reconnect)
        with _closed_on_error(runtime):
            super().__init__(runtime, color=color, lost_rule=lost_rule, recovery=recovery)


def warm_up(url: str, model: str, streams: int = 1) -> None:
    """Send short sequences of black frames, so that the first real stream finds a warm model.

    Triton's own `model_warmup` cannot run a model with implicit state.

    Args:
        url: HOST:PORT of the server's gRPC endpoint.
        model: the model's name.
        streams: how many at once: the batch sizes up to it are seen.

    Raises:
        InputError: no such model.
        RuntimeUnavailable: the server does not answer.
        MissingDependency: tritonclient is not installed.
    """
    with TritonRuntime(url, model, batch=streams) as runtime:
        black = np.zeros((streams, *runtime.motion.pixels), np.uint8)
        for count in range(1, streams + 1):
            runtime.step(range(count), black[:count], runtime.shared)


@contextmanager
def _closed_on_error(runtime: TritonRuntime) -> Iterator[None]:
    try:
        yield
    except BaseException:
        runtime.close()
        raise


def _draw_id() -> int:
    """A correlation id that no other client has; 0 means none."""
    return secrets.randbits(63) or 1


def _read_status(error: Any) -> str:
    return str(error.status()).removeprefix("StatusCode.")


def _read_tensor(result: Any, name: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """One output; a server may say one thing and send another."""
    values = result.as_numpy(name)
    found = "none" if values is None else values.shape
    if found != shape:
        raise RuntimeUnavailable(f"Triton's {name}: shape", found=found, expected=shape)
    return np.asarray(values, np.float32)


def _import_client() -> Any:
    try:
        import tritonclient.grpc
    except ImportError as error:
        raise MissingDependency(
            "tritonclient does not import", found=error, fix="`pip install 'relo-edge[triton]'`"
        ) from None
    return tritonclient.grpc
