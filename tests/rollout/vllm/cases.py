"""A model that only pretends, served for real, and a package that pretends to be vLLM."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from torch import Tensor

from groupwise.rollout.vllm.client import Client
from groupwise.rollout.vllm.engine import VllmEngine
from groupwise.rollout.vllm.server import serve
from rollout.cases import EOS, word_tokenizer

REMEDY = "call a friend"


class FakeModel:
    """Says what it was told to, and keeps what it was asked."""

    def __init__(self, **status: Any) -> None:
        self.weights: str | None = None
        self.tensors: dict[str, Tensor] = {}
        self.asked: list[Mapping[str, Any]] = []
        self.taken: list[Path] = []
        self.says: list[dict[str, Any]] = []  # in turn; by default each completion is its prompt
        self.error: Exception | None = None
        self.go = threading.Event()  # nothing is generated before
        self.go.set()
        self._status = {"model": "fake", "dtype": "float32", "context": 64} | status

    def status(self) -> dict[str, Any]:
        return self._status | {"weights": self.weights}

    def take(self, request: Mapping[str, Any]) -> dict[str, Any]:
        from safetensors.torch import load_file

        self.tensors, self.weights = load_file(request["path"]), request["weights"]
        self.taken.append(Path(request["path"]))
        return {}

    def generate(self, request: Mapping[str, Any]) -> dict[str, Any]:
        self.go.wait()
        if self.error:
            raise self.error
        self.asked.append(request)
        echo = [
            {"token_ids": ids, "logprobs": [-0.5] * len(ids), "finish_reason": "length"} for ids in request["prompts"]
        ]
        return {"completions": self.says or echo}


def served(model: FakeModel) -> str:
    """The address where it is served from now on."""
    ports: SimpleQueue[int] = SimpleQueue()
    threading.Thread(target=serve, args=(model, 0, ports.put), daemon=True).start()
    return f"127.0.0.1:{ports.get(timeout=10)}"


def engine_on(address: str, deadline: float = 30.0) -> VllmEngine:
    return VllmEngine(Client(address, deadline, REMEDY), word_tokenizer(), (EOS, 11))


VLLM = """
import os
from types import SimpleNamespace as Some

if os.environ["FAKE_VLLM"] == "absent":
    raise ImportError("libcuda.so.99: cannot open shared object file")

import torch

class SamplingParams:
    def __init__(self, **given):
        self.given = given

class LLM:
    def __init__(self, model, **options):
        if os.environ["FAKE_VLLM"] == "slow":
            import time
            time.sleep(600)
        self.calls, self.options = [], options
        self.llm_engine = Some(model_config=Some(dtype=getattr(torch, options["dtype"]), max_model_len=64))
    def collective_rpc(self, method, args):
        self.calls.append((method, *args))
    def reset_prefix_cache(self):
        self.calls.append(("reset_prefix_cache",))
    def generate(self, prompts, sampling, use_tqdm):
        self.calls.append(("generate", prompts, [each.given for each in sampling]))
        if os.environ["FAKE_VLLM"] == "dies":
            os._exit(9)
        return [Some(outputs=[Some(
            token_ids=prompt["prompt_token_ids"][:2],
            logprobs=[{t: Some(logprob=-t / 8)} for t in prompt["prompt_token_ids"][:2]],
            finish_reason=os.environ.get("FAKE_REASON", "stop"),
        )]) for prompt in prompts]
"""


def fake_vllm(folder: Path) -> Path:
    """A folder for PYTHONPATH with a package `vllm` that FAKE_VLLM governs: fine, absent, slow, dies."""
    package = folder / "vllm"
    package.mkdir()
    (package / "__init__.py").write_text(VLLM)
    return folder
