"""How a request becomes a call of vLLM, and its outputs an answer; vLLM only pretends."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from groupwise.rollout.vllm.model import Model

from .cases import fake_vllm

REQUEST: dict[str, Any] = {
    "prompts": [[5, 6, 7], [8, 9]],
    "seeds": [1, 2],
    "end_token_ids": [2, 11],
    "max_tokens": 5,
    "temperature": 0.7,
    "top_p": 0.9,
    "top_k": 3,
    "stop": [],
}


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.syspath_prepend(fake_vllm(tmp_path))
    monkeypatch.setenv("FAKE_VLLM", "fine")
    monkeypatch.setenv("TORCHDYNAMO_DISABLE", "1")  # what the model sets is set back afterwards
    real = {name: module for name, module in sys.modules.items() if name.split(".")[0] == "vllm"}
    for name in real:
        del sys.modules[name]
    yield Model("folder", dtype="bfloat16")
    for name in [name for name in sys.modules if name.split(".")[0] == "vllm"]:
        del sys.modules[name]
    sys.modules.update(real)


def test_status(model: Any) -> None:
    assert model.status() == {"model": "folder", "weights": None, "dtype": "bfloat16", "context": 64}


def test_generate(model: Any) -> None:
    answer = model.generate(REQUEST)
    assert answer["completions"] == [
        {"token_ids": [5, 6], "logprobs": [-5 / 8, -6 / 8], "finish_reason": "stop"},
        {"token_ids": [8, 9], "logprobs": [-1, -9 / 8], "finish_reason": "stop"},
    ]
    divided, (_, prompts, sampling) = model._llm.calls
    assert divided == ("divide_logits", 0.7)
    assert prompts == [{"prompt_token_ids": [5, 6, 7]}, {"prompt_token_ids": [8, 9]}]
    assert [each["seed"] for each in sampling] == [1, 2]
    assert "temperature" not in sampling[0]  # the logits are divided by it already
    assert sampling[0].items() >= {"top_p": 0.9, "top_k": 3, "max_tokens": 5, "detokenize": False}.items()


def test_stop_strings_need_text(model: Any) -> None:
    model.generate(REQUEST | {"stop": ["x"]})
    assert model._llm.calls[-1][2][0].items() >= {"stop": ["x"], "detokenize": True}.items()


def test_an_aborted_completion_is_an_error(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_REASON", "abort")
    with pytest.raises(RuntimeError, match="'abort'"):
        model.generate(REQUEST)


def test_new_weights_forget_old_prefixes(model: Any) -> None:
    model.take({"weights": "w", "path": "/p"})
    assert model._llm.calls == [("read_weights", "/p"), ("reset_prefix_cache",)]
    assert model.status()["weights"] == "w"


def test_after_half_an_update_of_the_weights_nothing_goes(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise ValueError("no such name")

    model.take({"weights": "w", "path": "/p"})
    with monkeypatch.context() as patch:
        patch.setattr(model._llm, "collective_rpc", fail)
        with pytest.raises(ValueError, match="no such name"):
            model.take({"weights": "v", "path": "/p"})
    assert model.status()["weights"] is None  # and what asks for others is refused
    with pytest.raises(RuntimeError, match="start the server again"):
        model.take({"weights": "v", "path": "/p"})
