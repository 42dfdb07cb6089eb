"""The vLLM server: one model for the trainers of this machine. `python -m groupwise.rollout.vllm.server MODEL`.

It listens on the loopback address only, and speaks JSON: GET / is its status (Model.status), POST /generate and
POST /weights are Model's methods. A request for weights that it does not hold is answered 409, an error 500.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import sys
import threading
import traceback
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from queue import SimpleQueue
from typing import Any, NoReturn, Protocol

HOST = "127.0.0.1"
PORT = 8734

Answer = tuple[int, dict[str, Any]]  # the HTTP status and what becomes JSON
Jobs = SimpleQueue[tuple[Callable[[], Answer], "Future[Answer]"]]


class Served(Protocol):
    """What the server asks of a model (see Model)."""

    weights: str | None

    def status(self) -> dict[str, Any]: ...
    def take(self, request: Mapping[str, Any]) -> dict[str, Any]: ...
    def generate(self, request: Mapping[str, Any]) -> dict[str, Any]: ...


def serve(model: Served, port: int, ready: Callable[[int], object]) -> NoReturn:
    """Serve for ever; `ready` is told the port (0 takes a free one).

    Requests arrive in threads of their own, so the status is told at any time; the model works in this one alone, one
    request after the other: vLLM binds its threads to that which loaded it.
    """
    jobs: Jobs = SimpleQueue()
    server = ThreadingHTTPServer((HOST, port), _handler(model, jobs))
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    ready(server.server_address[1])
    while True:
        work, future = jobs.get()
        future.set_result(work())


def answer(model: Served, path: str, request: Mapping[str, Any]) -> Answer:
    """What a POST does, and what it is told."""
    try:
        if path == "/weights":
            return 200, model.take(request)
        if path != "/generate":
            return 404, {"error": f"{path} is neither /generate nor /weights"}
        if request["weights"] != model.weights:
            return 409, {"error": f"the model holds weights {model.weights}"}
        return 200, model.generate(request)
    except Exception as error:
        traceback.print_exc()
        return 500, {"error": " ".join([type(error).__name__, *str(error).split()])}


def _handler(model: Served, jobs: Jobs) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._send((200, model.status()))

        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            done: Future[Answer] = Future()
            jobs.put((lambda: answer(model, self.path, request), done))
            self._send(done.result())

        def _send(self, told: Answer) -> None:
            body = json.dumps(told[1]).encode()
            with suppress(ConnectionError):  # whoever asked no longer waits
                self.send_response(told[0])
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing: a request is nothing special."""

    return Handler


def run(
    source: str, *, port: int = PORT, dtype: str = "auto", memory: float = 0.3, parent: int | None = None
) -> NoReturn:
    """Load the model `source` and serve it. `parent`: a socket that is told the port, and whose end ends the server."""
    family = None if parent is None else socket.socket(fileno=parent)
    if family:
        threading.Thread(target=_die_with, args=(family,), daemon=True).start()
    # All in this process: nothing of it can stay behind. And vLLM reports its use to its makers unless told not to.
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
    from groupwise.rollout.vllm.model import Model

    def ready(port: int) -> None:
        if family:
            family.sendall(str(port).encode())
        print(f"groupwise: serving {source}; set rollout.vllm.server to {HOST}:{port}", flush=True)

    serve(Model(source, dtype=dtype, memory=memory), port, ready)


def main(argv: Sequence[str] | None = None) -> None:
    """`python -m groupwise.rollout.vllm.server`."""
    if find_spec("vllm") is None:
        sys.exit("groupwise: vLLM is not installed; pip install 'groupwise[vllm]'")
    parser = argparse.ArgumentParser(
        prog="python -m groupwise.rollout.vllm.server", description="Serve a model to the trainers of this machine."
    )
    parser.add_argument("source", metavar="MODEL", help="a Hugging Face folder or hub id: the recipe's model")
    parser.add_argument("--port", type=int, default=PORT, help=f"on {HOST}; default {PORT}, 0: any free one")
    parser.add_argument("--dtype", default="auto", help="float32, bfloat16, ...; default: the model's own")
    parser.add_argument("--memory", type=float, default=0.3, help="share of the GPU's memory; default 0.3")
    parser.add_argument("--parent", type=int, help=argparse.SUPPRESS)
    with suppress(KeyboardInterrupt):
        run(**vars(parser.parse_args(argv)))


def _die_with(parent: socket.socket) -> None:
    while parent.recv(1):
        pass
    os._exit(0)


if __name__ == "__main__":
    main()
