"""Log-probs of batched, padded completions are those of each sequence alone, whatever a model does to its logits."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from models import CONFIGS, save_model
from torch import nn
from transformers import Gemma2Config, Gemma2ForCausalLM, GPT2Config, GPT2LMHeadModel, PreTrainedModel

from groupwise.config import LoraConfig
from groupwise.learner.batch import micro_batches
from groupwise.learner.forward import Forward, token_logits
from groupwise.learner.policy import load_policy
from groupwise.types import UserError

from .cases import (
    CPU,
    VOCABULARY,
    assert_same,
    gradients,
    make_learner,
    naive_scores,
    off_policy,
    random_rollouts,
    rollout,
)


def gemma2() -> PreTrainedModel:
    """Caps its logits, scales its embeddings, attends within a sliding window."""
    return Gemma2ForCausalLM(
        Gemma2Config(
            vocab_size=VOCABULARY, hidden_size=16, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2,
            num_key_value_heads=1, head_dim=8, final_logit_softcapping=0.05, sliding_window=4,
        )
    ).eval()  # fmt: skip


def gpt2() -> PreTrainedModel:
    """Has learned positions."""
    return GPT2LMHeadModel(GPT2Config(vocab_size=VOCABULARY, n_positions=32, n_embd=16, n_layer=2, n_head=2)).eval()


@pytest.fixture(params=["llama", gemma2, gpt2])
def any_model(request: pytest.FixtureRequest, model: nn.Module) -> nn.Module:
    make: str | Callable[[], nn.Module] = request.param
    torch.manual_seed(0)
    return model if isinstance(make, str) else make()


@pytest.mark.parametrize("temperature", [1.0, 0.3, 2.5])
@torch.no_grad()
def test_log_probs_and_entropies_are_those_of_each_sequence_alone(any_model: nn.Module, temperature: float) -> None:
    rollouts = random_rollouts(1)
    seen = set()
    for batch in micro_batches(rollouts, 45, CPU):
        logprobs, entropy = Forward(any_model, temperature, torch.float32).completions(batch)
        assert logprobs.shape == entropy.shape == batch.mask.shape
        assert (logprobs[~batch.mask] == 0).all()
        assert (entropy[~batch.mask] == 0).all()
        for row, index in enumerate(batch.index):
            seen.add(index)
            scores = naive_scores(any_model, rollouts[index], temperature)
            tokens = torch.tensor(rollouts[index].completion.token_ids, dtype=torch.long)
            size = len(tokens)
            torch.testing.assert_close(logprobs[row, :size], scores[torch.arange(size), tokens], rtol=1e-5, atol=1e-5)
            torch.testing.assert_close(entropy[row, :size], -(scores.exp() * scores).sum(-1), rtol=1e-5, atol=1e-5)
    assert seen == set(range(len(rollouts)))


@torch.no_grad()
def test_temperature_divides_the_logits(model: nn.Module) -> None:
    (batch,) = micro_batches([rollout([5, 6], [7, 8])], 100, CPU)
    logits = model(input_ids=torch.tensor([[5, 6, 7, 8]])).logits[0, 1:3]
    for temperature in (0.5, 1.0, 4.0):
        logprobs, _ = Forward(model, temperature, torch.float32).completions(batch)
        expected = [(logits[t] / temperature).log_softmax(-1)[token] for t, token in enumerate((7, 8))]
        torch.testing.assert_close(logprobs[0], torch.stack(expected))


@torch.no_grad()
def test_a_policy_without_preferences_has_the_largest_entropy(model: nn.Module) -> None:
    model.get_output_embeddings().weight.zero_()  # type: ignore[operator]
    (batch,) = micro_batches([rollout([1], [2, 3]), rollout([4, 4], [])], 100, CPU)
    logprobs, entropy = Forward(model, 1.0, torch.float32).completions(batch)
    assert entropy.flatten().tolist() == pytest.approx([math.log(VOCABULARY)] * 2 + [0, 0])
    assert logprobs.flatten().tolist() == pytest.approx([-math.log(VOCABULARY)] * 2 + [0, 0])


def test_the_entropy_carries_no_gradient(model: nn.Module) -> None:
    (batch,) = micro_batches(random_rollouts(2), 10_000, CPU)
    logprobs, entropy = Forward(model, 1.0, torch.float32).completions(batch)
    assert logprobs.requires_grad
    assert not entropy.requires_grad


def test_completions_that_are_all_empty_give_zeros_with_a_gradient_of_zero(model: nn.Module) -> None:
    (batch,) = micro_batches([rollout([1, 2], []), rollout([3], [])], 100, CPU)
    for dtype in (torch.float32, torch.bfloat16):
        logprobs, entropy = Forward(model, 1.0, dtype).completions(batch)
        assert logprobs.tolist() == entropy.tolist() == [[0.0], [0.0]]
        logprobs.sum().backward()
        assert all(p.grad is None or (p.grad == 0).all() for p in model.parameters())


def test_only_the_chosen_tokens_reach_the_output_head(model: nn.Module) -> None:
    sizes = []
    head = model.get_output_embeddings()  # type: ignore[operator]
    with head.register_forward_hook(lambda module, args, output: sizes.append(output.shape)):
        at = torch.tensor([7, 0, 6])
        ids = torch.arange(8).view(2, 4)
        logits = token_logits(model, at, torch.float32, input_ids=ids)
    assert sizes == [(1, 3, VOCABULARY)]
    torch.testing.assert_close(logits, model(input_ids=ids).logits.flatten(0, 1)[at])


@torch.no_grad()
def test_the_head_is_left_as_it_was_even_after_a_failure(model: nn.Module) -> None:
    ids = torch.arange(4)[None]
    with pytest.raises(IndexError):
        token_logits(model, torch.tensor([7]), torch.float32, input_ids=ids)
    assert model(input_ids=ids).logits.shape == (1, 4, VOCABULARY)


@torch.no_grad()
def test_bfloat16_computes_the_same_but_coarsely_and_answers_in_float32(model: nn.Module) -> None:
    (batch,) = micro_batches(random_rollouts(3), 10_000, CPU)
    fine, _ = Forward(model, 1.0, torch.float32).completions(batch)
    coarse, entropy = Forward(model, 1.0, torch.bfloat16).completions(batch)
    assert coarse.dtype == entropy.dtype == torch.float32
    assert 0 < (fine - coarse).abs().max() < 0.05


@pytest.mark.parametrize("kind", CONFIGS)
@pytest.mark.parametrize("rank", [0, 4], ids=["full", "lora"])
def test_recomputed_layers_give_the_same_gradient(kind: str, rank: int, tmp_path: Path) -> None:
    folder = str(save_model(kind, tmp_path))
    found = []
    for recompute in (False, True):
        model = load_policy(folder, CPU, lora=LoraConfig(rank=rank)).model
        rollouts = off_policy(model, random_rollouts(0))
        passes = count_passes(model)
        learner = make_learner(model, gradient_checkpointing=recompute, minibatches=2, beta=0.1)
        found.append((gradients(learner, rollouts), learner.update(rollouts)))
        assert passes.count(True) == (8 if recompute else 4)  # with gradient; those of the reference have none
    (plain, told), (recomputed, told_too) = found
    for ours, theirs in zip(recomputed, plain, strict=True):
        assert_same(ours, theirs)
    assert told_too == pytest.approx(told, rel=1e-5)


def count_passes(model: nn.Module) -> list[bool]:
    """For each pass through the last layer's feed-forward part from now on: whether it is one to learn from."""
    passes: list[bool] = []
    model.model.layers[-1].mlp.register_forward_pre_hook(lambda *_: passes.append(torch.is_grad_enabled()))
    return passes


def test_a_model_without_layers_to_recompute_is_told() -> None:
    with pytest.raises(UserError, match=r"update\.gradient_checkpointing: Linear has no layers that can be recomputed"):
        make_learner(nn.Linear(2, 2), gradient_checkpointing=True)
