"""Where a model is served, and the key that opens it."""

from __future__ import annotations

import logging
import os
import urllib.parse
from dataclasses import dataclass
from typing import NoReturn

from relo_edge.errors import InputError

__all__ = ["KEY_VARIABLE", "PORTS", "Address", "parse_address", "read_key"]

log = logging.getLogger("relo_edge")

KEY_VARIABLE = "RELO_EDGE_FINDER_KEY"
CHAT = "/chat/completions"
PORTS = {"http": 80, "https": 443}
LOOPBACK = ("localhost", "127.0.0.1", "::1")

EXPECTED = "an address such as http://localhost:8000/v1, with #MODEL where several are served"


@dataclass(frozen=True)
class Address:
    """An OpenAI-compatible server, and the model asked for there."""

    scheme: str
    host: str
    port: int
    base: str
    """The path that `/chat/completions` and `/models` follow."""
    model: str | None = None
    """None for the only one there is."""

    @property
    def origin(self) -> str:
        """What a redirect may not leave."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"

    @property
    def local(self) -> bool:
        """Whether pictures stay on this machine."""
        return self.host in LOOPBACK


def parse_address(text: str) -> Address:
    """The server in `http://HOST[:PORT][/v1][#MODEL]`; a bare host means its `/v1`."""
    try:
        parts = urllib.parse.urlsplit(text)
        port = parts.port
    except ValueError:
        _refuse(text)
    if parts.username is not None or parts.password is not None:
        # Whoever lists the processes of this machine reads what stands in an address.
        raise InputError(
            "a finder's address holds a user name or password",
            fix=f"put the key into the environment variable {KEY_VARIABLE}",
        )
    if parts.scheme not in PORTS or not parts.hostname or parts.query:
        _refuse(text)
    if not all(letter.isprintable() and letter.isascii() for letter in text) or " " in text:
        _refuse(text)
    base = parts.path.rstrip("/").removesuffix(CHAT) or "/v1"
    port = PORTS[parts.scheme] if port is None else port
    return Address(parts.scheme, parts.hostname, port, base, parts.fragment or None)


def _refuse(text: str) -> NoReturn:
    raise InputError("finder's address", found=ascii(text), expected=EXPECTED) from None


def read_key(address: Address) -> str | None:
    """The key from the environment, the only place it may stand in."""
    key = os.environ.get(KEY_VARIABLE, "")
    if not key:
        return None
    if not all("!" <= letter <= "~" for letter in key):
        raise InputError(
            f"{KEY_VARIABLE} holds a character that no key has",
            expected="visible ASCII characters alone",
        )
    if address.scheme == "http" and not address.local:
        log.warning("the key of %s is sent unencrypted to %s", KEY_VARIABLE, address.origin)
    return key
