"""A scripted chat-completions server: says what it is told to, well or badly."""

import base64
import json
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np

from relo_edge.host.opencv import cv2

MODEL = "scripted-qwen2.5-vl"


class ModelServer:
    """Answers each request by the next of `script`, and the last of it for ever.

    A string is the model's answer; a function gets the handler, with `request_json` in it, and does
    as it likes, or returns the answer.
    """

    def __init__(self, *script, models=(MODEL,)):
        self.script, self.models = list(script), list(models)
        self.requests, self.paths, self.keys = [], [], []
        self.ended = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._make_handler())
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def close(self):
        self.ended.set()
        self._server.shutdown()
        self._server.server_close()

    def _make_handler(self):
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                server.paths.append(self.path)
                server.keys.append(self.headers["Authorization"])
                send_json(self, {"data": [{"id": name} for name in server.models]})

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                server.paths.append(self.path)
                server.keys.append(self.headers["Authorization"])
                server.requests.append(json.loads(body))
                said = server.script[0] if len(server.script) == 1 else server.script.pop(0)
                try:
                    self.request_json = server.requests[-1]
                    said = said(self) if callable(said) else said
                    if said is not None:
                        send_answer(self, said)
                except (BrokenPipeError, ConnectionResetError):
                    pass

            def log_message(self, *_):
                pass

        return Handler


@contextmanager
def serve_model(*script, **options):
    server = ModelServer(*script, **options)
    try:
        yield server
    finally:
        server.close()


def send_body(handler, status, body, content_type="application/json", headers=()):
    handler.send_response(status)
    handler.send_header("Content-Type", content_type)
    handler.send_header("Content-Length", str(len(body)))
    for name, value in headers:
        handler.send_header(name, value)
    handler.end_headers()
    handler.wfile.write(body)


def send_json(handler, value, status=200, headers=()):
    send_body(handler, status, json.dumps(value).encode(), headers=headers)


def send_answer(handler, text):
    message = {"role": "assistant", "content": text}
    send_json(handler, {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]})


def fail(status, message="out of order", headers=()):
    """A server's error in OpenAI's form."""
    return lambda handler: send_json(handler, {"error": {"message": message}}, status, headers)


def drip(prefix=b"", seconds=30.0):
    """One byte now and then, for as long as somebody listens."""

    def send(handler):
        handler.wfile.write(prefix)
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            handler.wfile.write(b" ")
            time.sleep(0.05)

    return send


def read_pictures(request):
    """The pictures of a request, decoded."""
    parts = request["messages"][0]["content"]
    urls = [part["image_url"]["url"] for part in parts if part["type"] == "image_url"]
    heads = [url.partition(",") for url in urls]
    assert all(head == "data:image/jpeg;base64" for head, _, _ in heads)
    return [
        cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), cv2.IMREAD_COLOR)
        for _, _, data in heads
    ]


def read_words(request):
    """The text of a request."""
    return "".join(p["text"] for p in request["messages"][0]["content"] if p["type"] == "text")
