"""A server that is gone, slow, failing or none of ours is one line for the user, in time."""

from __future__ import annotations

import socket
import threading
import time

import pytest

from groupwise.rollout.vllm.client import Client, OtherWeightsError
from groupwise.types import UserError

from .cases import REMEDY, FakeModel, served

REQUEST = {"weights": None, "prompts": [[5]]}


def test_the_status_is_told_while_the_model_works() -> None:
    model = FakeModel()
    model.go.clear()
    client = Client(served(model), 0.3, REMEDY)
    began = time.monotonic()
    with pytest.raises(UserError, match=rf"{client.address} gave no answer within 0\.3 s.*vllm\.deadline.*{REMEDY}"):
        client.ask("/generate", REQUEST)
    assert client.ask("/")["context"] == 64
    assert time.monotonic() - began < 10
    model.go.set()
    assert Client(client.address, 30, REMEDY).ask("/generate", REQUEST)["completions"]  # it goes on


def test_nobody_is_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    with pytest.raises(UserError, match=rf"answers at {address} \(.*refused\); {REMEDY}") as error:
        Client(address, 5, REMEDY).ask("/")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("says", [b"", b"SSH-2.0\r\n", b"HTTP/1.0 200 OK\r\n\r\nhello", b"HTTP/1.0 200 OK\r\n\r\n[1]"])
def test_somebody_else_is_there(says: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:

        def talk() -> None:
            connection, _ = other.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(says)

        thread = threading.Thread(target=talk)
        thread.start()
        with pytest.raises(UserError, match="nothing of ours answers at"):
            Client(f"127.0.0.1:{other.getsockname()[1]}", 5, REMEDY).ask("/")
        thread.join(5)


def test_a_model_that_fails() -> None:
    model = FakeModel()
    model.error = RuntimeError("out of\nblocks")
    with pytest.raises(UserError, match=rf"failed: RuntimeError out of blocks; {REMEDY}"):
        Client(served(model), 5, REMEDY).ask("/generate", REQUEST)


def test_other_weights() -> None:
    with pytest.raises(OtherWeightsError, match="holds weights None"):
        Client(served(FakeModel()), 5, REMEDY).ask("/generate", REQUEST | {"weights": "w"})


def test_an_unknown_question() -> None:
    with pytest.raises(UserError, match="/sing is neither"):
        Client(served(FakeModel()), 5, REMEDY).ask("/sing", {})
