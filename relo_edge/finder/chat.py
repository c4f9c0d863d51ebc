"""An OpenAI-compatible server asked about pictures; what it cannot answer is told in one line."""

from __future__ import annotations

import base64
import json
import logging
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relo_edge.errors import FinderError
from relo_edge.finder.address import KEY_VARIABLE, Address, read_key
from relo_edge.finder.http_request import Deadline, Lost, Reply, send_request
from relo_edge.host.opencv import cv2

__all__ = ["ChatClient", "quote"]

log = logging.getLogger("relo_edge")

PAUSES = (0.5, 1.0, 2.0)
"""Seconds before each attempt but the first."""

PASSING = (429, 500, 502, 503, 504)
"""What a server may say now and not a second later."""

JPEG_QUALITY = 90
LONGEST_QUOTE = 80

UNKNOWN = (400, 422)
"""How servers refuse a request with a field that they do not know."""

OPTIONAL = ("top_k",)
"""Fields that OpenAI's own interface lacks; at temperature 0 they change no answer."""


def quote(text: object) -> str:
    """Somebody else's words, short and on one line."""
    words = " ".join(str(text).split())
    return repr(words if len(words) <= LONGEST_QUOTE else f"{words[:LONGEST_QUOTE]}…")


class ChatClient:
    """One model behind `/chat/completions`; nothing of a picture is kept or written down."""

    def __init__(self, address: Address, timeout: float) -> None:
        self.address = address
        self.timeout = timeout
        self._key = read_key(address)
        self._model = address.model
        self._unknown: set[str] = set()

    @property
    def model(self) -> str:
        """The model's name; asked of the server once, where the address has none."""
        if self._model is None:
            self._model = self._ask_model(Deadline(self.timeout))
        return self._model

    def ask(
        self, pictures: Sequence[NDArray[np.uint8]], words: str, sampling: Mapping[str, Any]
    ) -> str:
        """What the model answers to pictures (blue first), one after the other, and words."""
        parts: list[dict[str, Any]] = [
            {"type": "image_url", "image_url": {"url": _encode_picture(picture)}}
            for picture in pictures
        ]
        message = {"role": "user", "content": [*parts, {"type": "text", "text": words}]}
        request = {"model": self.model, "messages": [message], "stream": False, **sampling}
        said = self._ask_json("/chat/completions", request, Deadline(self.timeout))
        try:
            text = said["choices"][0]["message"]["content"]
        except (LookupError, TypeError):
            raise self._complain("is no chat completion", found=said) from None
        if isinstance(text, list):
            text = "".join(str(part.get("text", "")) for part in text if isinstance(part, dict))
        return self._redact(text) if isinstance(text, str) else ""

    def _ask_model(self, deadline: Deadline) -> str:
        said = self._ask_json("/models", None, deadline)
        try:
            names = [str(entry["id"]) for entry in said["data"]]
        except (LookupError, TypeError):
            raise self._complain("is no list of models", found=said) from None
        if len(names) != 1:
            found = self._quote(", ".join(names)) if names else "none"
            raise FinderError(
                f"models of {self.address.origin}",
                found=found,
                expected="a single one",
                fix="name it after the address, as in http://localhost:8000/v1#MODEL",
            )
        return names[0]

    def _ask_json(self, path: str, request: dict[str, Any] | None, deadline: Deadline) -> Any:
        reply = self._send(self.address.base + path, self._encode(request), deadline)
        if reply.status in UNKNOWN and self._note_unknown(reply, request or {}):
            reply = self._send(self.address.base + path, self._encode(request), deadline)
        if reply.status != 200:
            raise self._explain_status(reply)
        try:
            return json.loads(reply.body)
        except (ValueError, RecursionError):
            text = reply.body[:200].decode("utf-8", "replace")
            raise self._complain("is not JSON", found=text) from None

    def _encode(self, request: dict[str, Any] | None) -> bytes | None:
        if request is None:
            return None
        known = {name: value for name, value in request.items() if name not in self._unknown}
        return json.dumps(known).encode()

    def _note_unknown(self, reply: Reply, request: dict[str, Any]) -> bool:
        """Whether the server refuses a field that can be left out, from now on."""
        text = reply.body[:4096].decode("utf-8", "replace")
        named = {name for name in OPTIONAL if name in request and name in text} - self._unknown
        self._unknown |= named
        return bool(named)

    def _send(self, path: str, content: bytes | None, deadline: Deadline) -> Reply:
        """Send it, and again after a pause where that may help and there is time."""
        headers = {"Accept": "application/json", "Connection": "close"}
        if content is not None:
            headers["Content-Type"] = "application/json"
        if self._key is not None:
            headers["Authorization"] = f"Bearer {self._key}"
        for pause in (*PAUSES, None):
            try:
                reply = send_request(self.address, path, headers, content, deadline)
            except Lost as error:
                if pause is None or deadline.left <= pause:
                    raise FinderError(
                        f"{self.address.origin} cannot be reached",
                        found=error,
                        fix="start the server, or check the finder's address",
                    ) from None
            else:
                pause = _read_pause(reply, pause)
                if reply.status not in PASSING or pause is None or deadline.left <= pause:
                    return reply
            time.sleep(pause)
        raise AssertionError("the last attempt returns or raises")

    def _explain_status(self, reply: Reply) -> FinderError:
        what = f"{self.address.origin} refuses the request"
        found = f"status {reply.status}"
        said = self._quote(_read_message(reply))
        if reply.status in (401, 403):
            fix = f"put the right key into the environment variable {KEY_VARIABLE}"
            return FinderError(f"{self.address.origin} refuses the key", found=found, fix=fix)
        if reply.status == 404:
            fix = "check the address's path, and the model after its #"
            return FinderError(what, found=f"{found} {said}", fix=fix)
        return FinderError(what, found=f"{found} {said}")

    def _complain(self, what: str, found: object) -> FinderError:
        fix = "check that the address is that of an OpenAI-compatible server"
        return FinderError(
            f"the answer of {self.address.origin} {what}", found=self._quote(found), fix=fix
        )

    def _quote(self, text: object) -> str:
        return quote(self._redact(str(text)))

    def _redact(self, text: str) -> str:
        """A server may repeat what it was sent, the key too."""
        return text.replace(self._key, "***") if self._key else text


def _read_pause(reply: Reply, pause: float | None) -> float | None:
    """Seconds until the next attempt: the server's own wish, or the usual ones."""
    wish = reply.headers.get("retry-after", "")
    if pause is None or not wish.isdecimal() or not wish.isascii() or len(wish) > 6:
        return pause
    return max(pause, float(wish))


def _read_message(reply: Reply) -> str:
    """What an error says of itself, as OpenAI's form has it, or its text."""
    text = reply.body[:4096].decode("utf-8", "replace")
    try:
        said = json.loads(text)
        problem = said.get("error", said.get("detail", said.get("message")))
        message = problem.get("message") if isinstance(problem, dict) else problem
    except (ValueError, RecursionError, AttributeError):
        return text
    return str(message)


def _encode_picture(picture: NDArray[np.uint8]) -> str:
    _, encoded = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    return f"data:image/jpeg;base64,{base64.b64encode(encoded.tobytes()).decode()}"
