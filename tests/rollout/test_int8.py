"""Decoding with rounded weights: how far it is from the policy, and whether the log-probs are those of the draws."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from groupwise.learner.policy import Policy, load_policy
from groupwise.rollout.encode import encode
from groupwise.rollout.int8 import rounded, share
from groupwise.rollout.local import LocalEngine
from groupwise.rollout.products import instead
from groupwise.rollout.thin import thin
from groupwise.types import Prompt, Sampling

from .cases import GROUPED, engine, forced, some_prompts, tiny, tokens

SOME = some_prompts()
KEYS = range(len(SOME))


def layer(bias: bool = True) -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(96, 48, bias=bias)


@pytest.mark.parametrize("bias", [True, False])
def test_products_are_off_by_one_or_two_percent_beside_a_large_row_too(bias: bool) -> None:
    exact, x = layer(bias), torch.randn(20, 1, 96)
    x[3] *= 1000
    x[4] = 0
    expected = exact(x)
    with torch.no_grad(), instead(rounded(exact)):
        found = exact(x)
    off = (found - expected).norm(dim=-1) / expected.norm(dim=-1).clamp_min(1e-9)
    assert 0 < off.max() < 0.03


def test_a_layer_that_keeps_its_weight_the_other_way_round() -> None:
    usual, other, x = layer(), Conv1D(48, 96), torch.randn(5, 2, 96)
    with torch.no_grad():
        other.weight.copy_(usual.weight.T)
        other.bias.copy_(usual.bias)
    with torch.no_grad(), instead(rounded(usual)), instead(rounded(other)):
        assert torch.equal(usual(x), other(x))


def test_a_model_with_few_weights_that_can_be_rounded_is_told(caplog: pytest.LogCaptureFixture) -> None:
    assert share(tiny("llama")) == 1
    experts = share(tiny("mixtral"))
    assert 0 < experts < 0.5
    for kind in ("llama", "mixtral"):
        engine(kind, int8=True)
    told = f"rollout.int8: only {100 * experts:.0f} % of the weights of MixtralForCausalLM can be rounded"
    assert [record.getMessage() for record in caplog.records] == [told]


def test_the_layers_are_their_own_again_after_an_error_too() -> None:
    model = nn.Sequential(layer(), nn.ReLU())
    x = torch.randn(2, 96)
    before = model(x)
    forwards = rounded(model)
    with instead(forwards):
        assert not torch.equal(model(x), before)
    assert torch.equal(model(x), before)
    with pytest.raises(RuntimeError, match="should be equal to K"), instead(forwards):
        model(torch.randn(2, 95))
    assert torch.equal(model(x), before)
    assert all("forward" not in vars(module) for module in model.modules())
    copy.deepcopy(model)


def test_a_layer_whose_forward_somebody_replaced_keeps_it() -> None:
    model = nn.Sequential(layer(), layer())
    model[0].forward = hooked = lambda x: x
    with instead(rounded(nn.Sequential(model[0]))), instead(thin(nn.Sequential(model[0]))):
        assert model[0].forward is hooked
    assert model[0].forward is hooked
    assert [found for found, _ in rounded(model)] == [model[1]]


def test_every_generation_rounds_the_weights_as_they_are_then() -> None:
    local = engine(int8=True)
    before = tokens(local.generate(SOME, KEYS, Sampling(max_tokens=12)))
    assert tokens(local.generate(SOME, KEYS, Sampling(max_tokens=12))) == before
    with torch.no_grad():
        for weights in local.model.parameters():
            weights.mul_(-1)
    assert tokens(local.generate(SOME, KEYS, Sampling(max_tokens=12))) != before


@pytest.mark.parametrize("kind", sorted(GROUPED))
def test_log_probs_are_near_those_of_the_policy(kind: str) -> None:
    local = engine(kind, int8=True)
    off = [
        torch.tensor(completion.logprobs) - forced(local.model, prompt, completion)
        for prompt, completion in zip(SOME, local.generate(SOME, KEYS, Sampling(max_tokens=30)), strict=True)
    ]
    assert 0 < torch.cat(off).abs().mean() < 0.05


@pytest.fixture(scope="module")
def seedling() -> Policy:
    return load_policy("seedling", torch.device("cpu"))


@pytest.fixture(scope="module")
def questions(seedling: Policy) -> list[Prompt]:
    texts = [f"{a} + {b} =" for a in range(11, 27) for b in range(30, 46)]
    prompts = [Prompt(id=text, task="t", domain="d", text=text) for text in texts]
    return encode(prompts, seedling.tokenizer)


def test_what_is_sampled_goes_by_the_log_probs_that_are_reported(seedling: Policy, questions: list[Prompt]) -> None:
    """Drawn from q, the mean of p/q is 1 whatever p is: here of the second tokens, the first that are decoded."""
    local = LocalEngine(seedling.model, seedling.tokenizer, int8=True)
    completions = local.generate(questions, range(len(questions)), Sampling(max_tokens=2))
    pairs = [
        (c.logprobs[1], float(forced(seedling.model, p, c)[1]))
        for p, c in zip(questions, completions, strict=True)
        if len(c.logprobs) == 2
    ]
    assert len(pairs) > 200
    sampled, policy = torch.tensor(pairs).T
    ratios = (policy - sampled).exp()
    error = float(ratios.std()) / len(pairs) ** 0.5
    assert abs(float(ratios.mean()) - 1) < 4 * error
    assert 0 < error < 0.01


def test_a_trained_model_says_nearly_the_same(seedling: Policy, questions: list[Prompt]) -> None:
    sampling, keys = Sampling(max_tokens=16), range(len(questions))
    exact, rounded = (
        LocalEngine(seedling.model, seedling.tokenizer, int8=int8).generate(questions, keys, sampling)
        for int8 in (False, True)
    )
    same = [a.token_ids == b.token_ids for a, b in zip(exact, rounded, strict=True)]
    assert 0.8 < sum(same) / len(same) < 1
