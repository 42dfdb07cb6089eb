"""One short question to the hub, whatever the network does; and models that the hub's cache holds need none."""

from __future__ import annotations

import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants

from groupwise.learner.hub import check_reachable
from groupwise.learner.policy import load_policy
from groupwise.types import UserError

CPU = torch.device("cpu")


class Hub(ThreadingHTTPServer):
    """Answers every question with `status` and `headers`, or never."""

    daemon_threads = True

    def __init__(self, status: int, headers: dict[str, str]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.status, self.headers, self.asked = status, headers, 0


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        hub = self.server
        assert isinstance(hub, Hub)
        # threads of earlier tests may still ask for other models
        hub.asked += any(name in self.path for name in ("someone/model", "nowhere"))
        body = b'{"id": "someone/model", "siblings": [], "tags": []}'
        self.send_response(hub.status)
        for name, value in hub.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


@contextmanager
def answering(status: int, **headers: str) -> Iterator[Hub]:
    hub = Hub(status, {name.replace("_", "-"): value for name, value in headers.items()})
    thread = threading.Thread(target=hub.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield hub
    finally:
        hub.shutdown()
        thread.join()
        hub.server_close()


@pytest.fixture
def at(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """at(port): the hub is there, and may be asked."""

    def set_endpoint(port: int) -> None:
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{port}")

    return set_endpoint


def refusal(name: str = "someone/model", **options: float) -> str:
    with pytest.raises(UserError) as caught:
        check_reachable(name, **options)
    message = str(caught.value)
    assert message.startswith(f"model: {name!r} is neither a folder here nor reachable on the hub (")
    assert "\n" not in message
    return message


def test_a_model_that_the_hub_has(at: Callable[[int], None]) -> None:
    with answering(200) as hub:
        at(hub.server_port)
        check_reachable("someone/model")
    assert hub.asked == 1


def test_a_model_that_the_hub_does_not_have(at: Callable[[int], None]) -> None:
    with answering(404, X_Error_Code="RepoNotFound") as hub:
        at(hub.server_port)
        assert "has no such model" in refusal()
    assert hub.asked == 1


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_hub_in_trouble_is_asked_once(status: int, at: Callable[[int], None]) -> None:
    with answering(status) as hub:
        at(hub.server_port)
        assert str(status) in refusal()
    assert hub.asked == 1


def test_no_hub_at_all(at: Callable[[int], None]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    at(port)
    assert "refused" in refusal()


def test_a_hub_that_never_answers(at: Callable[[int], None]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        at(silent.getsockname()[1])
        began = time.monotonic()
        refusal(deadline=0.3)
        assert time.monotonic() - began < 5


def test_a_look_up_of_the_name_that_never_ends(at: Callable[[int], None], monkeypatch: pytest.MonkeyPatch) -> None:
    """It knows no timeout of its own."""
    released = threading.Event()

    def look_up(*args: object, **options: object) -> list[object]:
        released.wait(20)
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    at(9)
    began = time.monotonic()
    assert "no answer within 0.3 s" in refusal(deadline=0.3)
    assert time.monotonic() - began < 5
    released.set()


def test_offline_the_hub_is_not_asked() -> None:
    assert constants.HF_HUB_OFFLINE  # by tests/conftest.py
    assert "HF_HUB_OFFLINE is set" in refusal()


@pytest.mark.parametrize("name", ["a b", "-x", "x" * 200, "a/ b"])
def test_what_cannot_be_a_name_there(name: str, at: Callable[[int], None]) -> None:
    with answering(200) as hub:
        at(hub.server_port)
        assert "cannot be a name" in refusal(name)
    assert hub.asked == 0


@pytest.mark.parametrize("name", ["nowhere", "runs/nowhere"])
def test_a_misspelt_model_costs_one_question(name: str, at: Callable[[int], None]) -> None:
    with answering(503) as hub:
        at(hub.server_port)
        with pytest.raises(UserError, match=f"model: '{name}' is neither a folder here nor reachable on the hub"):
            load_policy(name, CPU)
    assert hub.asked == 1


def cache(folder: Path, where: Path, name: str) -> Path:
    """Put the model's files into a hub cache, as if they had been downloaded; returns their folder."""
    there = where / f"models--{name.replace('/', '--')}"
    commit = "0" * 40
    (there / "refs").mkdir(parents=True)
    (there / "refs" / "main").write_text(commit)
    shutil.copytree(folder, there / "snapshots" / commit)
    return there / "snapshots" / commit


def test_a_model_in_the_cache_needs_no_hub(
    folder: Path, tmp_path: Path, at: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    files = cache(folder, tmp_path, "someone/model")
    with answering(500) as hub:
        at(hub.server_port)
        assert load_policy("someone/model", CPU).tokenizer.eos_token == "<|end|>"
        assert hub.asked == 0
        (files / "model.safetensors").unlink()  # as after a download that was interrupted
        with pytest.raises(UserError, match=r"neither a folder here nor reachable on the hub \(.*500"):
            load_policy("someone/model", CPU)
