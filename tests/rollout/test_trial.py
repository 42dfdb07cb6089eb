"""Models that say they are ordinary, and are not."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import LlamaForCausalLM

from groupwise.rollout import trial
from groupwise.rollout.grouped import GroupedDecoder
from groupwise.rollout.trial import may_share
from groupwise.types import Sampling, UserError

from .cases import CONFIGS, GROUPED, engine, forced, some_prompts, tiny

CPU = torch.device("cpu")


class Strict(LlamaForCausalLM):
    """Takes what it needs, and nothing else."""

    def forward(  # type: ignore[override]
        self,
        input_ids: Any = None,
        attention_mask: Any = None,
        position_ids: Any = None,
        past_key_values: Any = None,
        use_cache: Any = None,
    ) -> Any:
        given = {"attention_mask": attention_mask, "position_ids": position_ids, "past_key_values": past_key_values}
        return super().forward(input_ids=input_ids, use_cache=use_cache, **given)


class Forgetful(LlamaForCausalLM):
    """Does not look at the cache that it is given."""

    def forward(self, past_key_values: Any = None, attention_mask: Any = None, **given: Any) -> Any:  # type: ignore[override]
        return super().forward(**given)


class Refusing(LlamaForCausalLM):
    """Wants a cache of its own."""

    def forward(self, past_key_values: Any = None, **given: Any) -> Any:  # type: ignore[override]
        if past_key_values is not None:
            raise ValueError("a cache of\nanother kind")
        return super().forward(**given)


@torch.no_grad()
@pytest.mark.parametrize("kind", CONFIGS)
def test_which_models_share(kind: str) -> None:
    assert may_share(tiny(kind), CPU) == (kind in GROUPED)


@torch.no_grad()
@pytest.mark.parametrize("change", ["positions", "scale"])
def test_a_decoder_that_goes_astray_is_seen(change: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Astray(GroupedDecoder):
        def step(self, tokens: torch.Tensor) -> torch.Tensor:
            logits = super().step(tokens)
            self._positions = self._positions + (change == "positions")
            return logits * (1.002 if change == "scale" else 1)

    monkeypatch.setattr(trial, "GroupedDecoder", Astray)
    assert not may_share(tiny("llama"), CPU)


@torch.no_grad()
@pytest.mark.parametrize("kind", ["llama", "mixtral"])
def test_rounded_weights_and_mixed_types_are_no_reason(kind: str) -> None:
    model = tiny(kind)
    with torch.autocast("cpu", torch.bfloat16):
        assert may_share(model, CPU)
        assert may_share(model.to(torch.bfloat16), CPU)


def test_a_model_that_takes_no_further_arguments_says_what_it_would_say_alone() -> None:
    local = engine(made_by=Strict)
    prompts = some_prompts(3)
    completions = local.generate(prompts, range(len(prompts)), Sampling(max_tokens=6))
    assert not local._grouped
    for prompt, completion in zip(prompts, completions, strict=True):
        expected = forced(local.model, prompt, completion)
        torch.testing.assert_close(torch.tensor(completion.logprobs), expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("grouped", [True, False], ids=["grouped", "plain"])
@pytest.mark.parametrize(
    ("made_by", "why"), [(Forgetful, "Forgetful does not say.*$"), (Refusing, "Refusing.*: a cache of another kind$")]
)
def test_a_model_without_a_usable_cache_is_refused(made_by: Any, why: str, grouped: bool) -> None:
    with pytest.raises(UserError, match=why):
        engine(made_by=made_by, grouped=grouped).generate(some_prompts(1), range(3), Sampling(max_tokens=2))
