"""Adapters while completions are generated: what is said is the same, and the weights come back to the bit."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from groupwise.config import LoraConfig
from groupwise.learner.lora import attach, switched_off
from groupwise.rollout.adapters import merged
from groupwise.types import Sampling

from .cases import engine, some_prompts, tokens

SOME = some_prompts()
KEYS = range(len(SOME))
SAMPLING = Sampling(max_tokens=20)
TARGETS = {
    "llama": ["q_proj", "v_proj", "down_proj"],
    "mixtral": ["q_proj", "gate_up_proj", "down_proj"],  # the last two are fused weights
}


def adapted(kind: str) -> Any:
    """An engine whose model has adapters that say something else than the model did."""
    local: Any = engine(kind)
    attach(local.model, LoraConfig(rank=3, targets=TARGETS[kind]), seed=0)
    with torch.no_grad():
        for name, weights in local.model.named_parameters():
            if "lora_B" in name:
                weights.normal_(0, 0.3)
    return local


def state(model: nn.Module) -> list[tuple[str, bool, torch.Tensor]]:
    return [(name, p.requires_grad, p.detach().clone()) for name, p in model.named_parameters()]


@pytest.mark.parametrize("kind", TARGETS)
def test_merged_they_say_the_same_and_nothing_stays_changed(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    local = adapted(kind)
    before = state(local.model)
    ids = torch.tensor([SOME[0].token_ids])
    apart = local.model(input_ids=ids).logits
    with merged(local.model), torch.no_grad():
        calls: list[int] = []
        hooks = [
            m.register_forward_hook(lambda *_: calls.append(1)) for n, m in local.model.named_modules() if "lora_" in n
        ]
        torch.testing.assert_close(local.model(input_ids=ids).logits, apart, atol=1e-5, rtol=1e-4)
        assert hooks and not calls
    assert tokens(local.generate(SOME, KEYS, SAMPLING)) != tokens(engine(kind).generate(SOME, KEYS, SAMPLING))
    after = state(local.model)
    assert [(name, grad) for name, grad, _ in after] == [(name, grad) for name, grad, _ in before]
    assert all(torch.equal(a, b) for (_, _, a), (_, _, b) in zip(before, after, strict=True))
    assert torch.equal(local.model(input_ids=ids).logits, apart)


def test_they_come_back_after_an_error() -> None:
    model = adapted("llama").model
    before = state(model)
    with pytest.raises(RuntimeError), merged(model):
        raise RuntimeError
    assert all(torch.equal(a, b) for (_, _, a), (_, _, b) in zip(before, state(model), strict=True))
    assert not any(getattr(m, "merged", False) for m in model.modules())


def test_beside_weights_of_fewer_bits_they_stay_apart() -> None:
    model = adapted("llama").model
    weights = model.model.layers[0].self_attn.q_proj.base_layer.weight
    weights.data = weights.data.bfloat16()
    with merged(model):
        assert not model.model.layers[0].self_attn.q_proj.merged
        assert model.model.layers[0].self_attn.v_proj.merged


def test_adapters_that_are_switched_off_stay_off() -> None:
    local = adapted("llama")
    expected = tokens(engine("llama").generate(SOME, KEYS, SAMPLING))
    with switched_off(local.model):
        assert tokens(local.generate(SOME, KEYS, SAMPLING)) == expected
