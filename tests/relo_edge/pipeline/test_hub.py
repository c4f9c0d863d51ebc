"""`fetch`: what it says of the weights, and how soon it says that there is no way to them."""

import errno
import socket
import time

import huggingface_hub
import pytest
from verbs import run_verb

from relo_edge.pipeline import hub


@pytest.fixture
def offline(monkeypatch):
    """The hub's own code, on a machine that knows no names; whoever waits fails."""

    def fail(*_args, **_kwargs):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    monkeypatch.setattr(socket, "getaddrinfo", fail)
    monkeypatch.setattr(time, "sleep", lambda seconds: pytest.fail(f"waits for {seconds} s"))


@pytest.fixture
def download(monkeypatch):
    """What stands in for the hub: `answer` of the first question, then a download by `get`."""
    calls = []

    def install(answer, get):
        def ask(_url):
            if answer:
                raise RuntimeError("a long story") from answer

        def load(*names, **options):
            calls.append(options)
            return get(*names)

        monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", ask)
        monkeypatch.setattr(huggingface_hub, "hf_hub_download", load)
        return calls

    return install


@pytest.mark.usefixtures("offline")
@pytest.mark.parametrize(
    ("variant", "repository", "folder"),
    [
        ("b256", "xche32/RELO", "relo-b256"),
        ("sutrack-t224", "xche32/SUTrack", "sutrack-t224"),
        ("sutrack-l384", "xche32/SUTrack", "sutrack-l384"),
    ],
)
def test_without_network_it_says_so_at_once_and_how_to_go_on_by_hand(
    capsys, tmp_path, variant, repository, folder
):
    code, _, err = run_verb(capsys, "fetch", variant, "-o", tmp_path)
    assert code == 1
    assert len(err.splitlines()) == 1
    assert "the Hugging Face hub cannot be reached: found gaierror" in err
    place, file = hub.list_published()[variant]
    assert place == repository
    assert f"download {file} from the model repository {repository}" in err
    assert f"relo-edge export --variant {variant} --checkpoint FILE -o {folder}" in err


@pytest.mark.usefixtures("offline")
def test_without_network_what_is_there_will_do(capsys, tmp_path):
    file = tmp_path / hub.list_published()["t256"][1]
    file.parent.mkdir(parents=True)
    file.write_bytes(b"abc")
    code, out, _ = run_verb(capsys, "fetch", "t256", "-o", tmp_path)
    assert code == 0
    assert "sha256 ba7816bf" in out


@pytest.mark.parametrize(
    ("error", "hopeless"),
    [
        (ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused"), True),
        (OSError(errno.ENETUNREACH, "Network is unreachable"), True),
        (TimeoutError("timed out"), False),
        (ConnectionResetError(errno.ECONNRESET, "reset by peer"), False),
        (ValueError("404 Client Error"), False),
    ],
)
def test_a_slow_or_shaky_line_is_left_to_the_hubs_own_patience(
    capsys, tmp_path, download, error, hopeless
):
    (tmp_path / "weights").write_bytes(b"abc")
    calls = download(error, lambda *_: str(tmp_path / "weights"))
    code, _, _ = run_verb(capsys, "fetch", "t256", "-o", tmp_path)
    assert (code, len(calls)) == (0, 1)
    assert calls[0]["local_files_only"] is hopeless


def test_what_the_hub_refuses_is_named(capsys, tmp_path, download):
    def refuse(*_):
        raise RuntimeError("a long story") from OSError("no space")

    download(None, refuse)
    code, _, err = run_verb(capsys, "fetch", "l256", "-o", tmp_path)
    assert code == 1
    assert len(err.splitlines()) == 1
    assert "l256 cannot be fetched from the Hugging Face hub: found OSError: no space" in err


def test_it_shows_the_hash_and_the_next_command(capsys, tmp_path, download):
    (tmp_path / "weights").write_bytes(b"abc")
    download(None, lambda *_: str(tmp_path / "weights"))
    code, out, _ = run_verb(capsys, "fetch", "t256", "-o", tmp_path)
    assert code == 0
    assert "sha256 ba7816bf" in out
    assert f"--checkpoint {tmp_path / 'weights'} -o relo-t256" in out
