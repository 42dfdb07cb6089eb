"""What groupwise does inside a vLLM worker, on a worker that only pretends."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from groupwise.rollout.vllm.worker import WorkerExtension


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(2))

    def load_weights(self, weights: Iterable[tuple[str, Tensor]]) -> set[str]:
        loaded = set()
        for name, tensor in weights:
            self.get_parameter(name).data.copy_(tensor)
            loaded.add(name)
        return loaded

    def compute_logits(self, hidden: Tensor | None) -> Tensor | None:
        return hidden


class Worker(WorkerExtension):
    device = torch.device("meta")  # not a CPU: nothing is to be packed

    def __init__(self) -> None:
        self.network = Network()

    def get_model(self) -> nn.Module:
        return self.network

    def reload_weights(self, weights_iterator: Iterable[tuple[str, Tensor]]) -> None:
        self.network.load_weights(weights_iterator)


def test_weights_are_read(tmp_path: Path) -> None:
    worker = Worker()
    for value in (1.0, 2.0):
        save_file({"left": torch.full((2,), value), "right": torch.ones(2)}, tmp_path / "file")
        worker.read_weights(str(tmp_path / "file"))
        assert worker.network.left.tolist() == [value, value]
    assert "load_weights" not in vars(worker.network)


def test_missing_weights_are_named(tmp_path: Path) -> None:
    save_file({"left": torch.ones(2)}, tmp_path / "file")
    with pytest.raises(ValueError, match=r"1 of the model's weights did not come, e\.g\. right"):
        Worker().read_weights(str(tmp_path / "file"))


def test_logits_are_divided_in_float32() -> None:
    worker: Any = Worker()
    logits = torch.tensor([[1.0, 3.0]], dtype=torch.bfloat16)
    for temperature in (0.7, 1.0, 2.0):  # the newest counts, not their product
        worker.divide_logits(temperature)
        divided = worker.network.compute_logits(logits)
        assert torch.equal(divided, logits.float() / temperature)
    assert worker.network.compute_logits(None) is None
