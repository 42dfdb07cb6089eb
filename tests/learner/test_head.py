"""Log-probs and entropies of slices are torch's own, and so are their gradients."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from groupwise.learner import head
from groupwise.learner.head import LogProbs, slice_tokens, token_logprobs

TOKENS, WIDTH, VOCABULARY = 11, 5, 17


def case() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    states = torch.randn(TOKENS, WIDTH, generator=generator, dtype=torch.float64)
    weight = torch.randn(VOCABULARY, WIDTH, generator=generator, dtype=torch.float64)
    targets = torch.randint(VOCABULARY, (TOKENS,), generator=generator)
    return states, weight, targets, torch.randn(TOKENS, generator=generator)


@pytest.mark.parametrize("tokens", [1, 4, TOKENS, 1000])
@pytest.mark.parametrize("temperature", [1.0, 0.4])
def test_slices_give_what_torch_gives_at_once(tokens: int, temperature: float) -> None:
    found = []
    for sliced in (True, False):
        states, weight, targets, pull = case()
        states.requires_grad_()
        weight.requires_grad_()
        if sliced:
            logprobs, entropy = token_logprobs(lambda s, w=weight: s @ w.T, states, targets, temperature, tokens)
        else:
            scores = ((states @ weight.T).float() / temperature).log_softmax(-1)
            logprobs, entropy = scores[torch.arange(TOKENS), targets], -(scores.exp() * scores).sum(-1)
        (logprobs * pull).sum().backward()
        found.append((logprobs, entropy, states.grad, weight.grad))
        assert not (sliced and entropy.requires_grad)
    for ours, theirs in zip(*found, strict=True):
        assert ours is not None
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


def test_the_logits_of_more_than_a_slice_never_exist_together() -> None:
    states, weight, targets, _ = case()
    seen = []

    def logits(part: Tensor) -> Tensor:
        seen.append(len(part))
        return part @ weight.T

    logprobs, _ = token_logprobs(logits, states.requires_grad_(), targets, 1.0, 4)
    assert seen == [4, 4, 3]
    logprobs.sum().backward()
    assert sorted(seen[3:]) == [3, 4, 4], "computed again, slice by slice"


def test_the_size_of_a_slice_is_of_its_logits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(head, "SLICE_BYTES", 4000)
    assert slice_tokens(100) == 10
    assert slice_tokens(10**6) == 1


def test_the_gradient_of_log_probs_is_right_in_coarse_types_too() -> None:
    _, _, targets, pull = case()
    logits = torch.randn(TOKENS, VOCABULARY, generator=torch.Generator().manual_seed(1)).bfloat16().requires_grad_()
    logprobs, entropy = LogProbs.apply(logits, targets, 1.0)
    assert logprobs.dtype == entropy.dtype == torch.float32
    (found,) = torch.autograd.grad((logprobs * pull).sum(), logits)
    fine = logits.detach().float().requires_grad_()
    (right,) = torch.autograd.grad((fine.log_softmax(-1)[torch.arange(TOKENS), targets] * pull).sum(), fine)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), right, rtol=2e-2, atol=1e-2)
