"""A real Triton server on this machine: the one in the wheel nvidia-pytriton."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

import pytest

KINDS = ("stand-in", "tritonserver")
MODEL = Path(__file__).with_name("triton_python_model.py")
SECONDS = 120


def find_triton():
    """The folder that the wheel was unpacked into, or None."""
    try:
        listed = files("nvidia-pytriton") or []
    except PackageNotFoundError:
        return None
    servers = [file for file in listed if file.name == "tritonserver"]
    return Path(servers[0].locate()).resolve().parents[3] if servers else None


def start_server(kind, bundle, folder, **options):
    """A stand-in, or the real server, that serves the bundle as `relo-edge triton` writes it."""
    from triton_stand_in import TritonStandIn

    from relo_edge.pipeline import write_model_repository

    if kind == "tritonserver" and find_triton() is None:
        pytest.skip("no Triton server: see `make triton-check`")
    folder.mkdir(exist_ok=True)
    write_model_repository(bundle, folder / "repository", **options)
    if kind == "stand-in":
        return TritonStandIn(folder / "repository").start()
    serve_in_python(folder / "repository")
    return TritonServer(folder / "repository", folder).start()


def serve_in_python(repository):
    """Have each model of a written repository run by the Python backend; nothing else changes."""
    from google.protobuf import text_format
    from tritonclient.grpc import model_config_pb2

    for file in repository.glob("*/config.pbtxt"):
        config = text_format.Parse(file.read_text(), model_config_pb2.ModelConfig())
        config.backend, config.default_model_filename = "python", "model.py"
        file.write_text(text_format.MessageToString(config))
        shutil.copy(MODEL, file.parent / "1" / "model.py")


class TritonServer:
    """A process that can be killed and started again on the same port."""

    def __init__(self, repository, workplace):
        self.repository, self.workplace = repository, workplace
        root = find_triton()
        self.libraries = root / "nvidia_pytriton.libs"
        binaries = root / "pytriton" / "tritonserver"
        backend = workplace / "backends" / "python"
        shutil.copytree(binaries / "backends" / "python", backend)
        version = "{}.{}".format(*sys.version_info)
        stub = binaries / "python_backend_stubs" / version / "triton_python_backend_stub"
        shutil.copy(stub, backend)
        self.binary = binaries / "bin" / "tritonserver"
        self.port = find_free_port()
        self.process = None

    @property
    def url(self):
        return f"127.0.0.1:{self.port}"

    @property
    def log(self):
        return self.workplace / "triton.log"

    def start(self, wait=True):
        command = [
            self.binary,
            f"--model-repository={self.repository}",
            f"--backend-directory={self.workplace / 'backends'}",
            f"--grpc-port={self.port}",
            "--grpc-address=127.0.0.1",
            "--allow-http=false",
            "--allow-metrics=false",
        ]
        paths = [self.libraries, os.environ.get("LD_LIBRARY_PATH", "")]
        environment = {
            **os.environ,
            "LD_LIBRARY_PATH": ":".join(map(str, filter(None, paths))),
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHONPATH": ":".join(filter(None, sys.path[1:])),
        }
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command, env=environment, stdout=log, stderr=log, start_new_session=True
            )
        if wait:
            self.wait()
        return self

    def wait(self):
        import tritonclient.grpc as client

        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            assert self.process.poll() is None, self.log.read_text()[-4000:]
            with client.InferenceServerClient(self.url) as asked:
                try:
                    if asked.is_server_ready(client_timeout=2):
                        return
                except client.InferenceServerException:
                    pass
            time.sleep(0.2)
        raise AssertionError(self.log.read_text()[-4000:])

    def kill(self):
        """As a power cut does: the server and the processes of its models."""
        if self.process is not None and self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


def find_free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
