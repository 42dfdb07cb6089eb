"""AdamW's groups, the schedules at their ends, clipping, and gradients that are not finite."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from groupwise.config import OptimizerConfig
from groupwise.learner.optimizer import build_optimizer, learning_rate, optimizer_step

RATE = 0.5


def rates(steps: int, **keys: object) -> list[float]:
    config = OptimizerConfig(learning_rate=RATE, **keys)  # type: ignore[arg-type]
    return [learning_rate(config, step, steps) for step in range(steps)]


def test_schedules_at_their_ends() -> None:
    assert rates(4) == [RATE] * 4
    assert rates(4, schedule="linear") == [RATE, 0.75 * RATE, 0.5 * RATE, 0.25 * RATE]
    assert rates(4, schedule="cosine") == pytest.approx(
        [RATE * (1 + math.cos(math.pi * s / 4)) / 2 for s in range(4)], rel=1e-12
    )
    assert rates(1, schedule="linear") == rates(1, schedule="cosine") == [RATE]


def test_warm_up_rises_to_the_full_rate_and_the_schedule_begins_there() -> None:
    assert rates(6, warmup=4)[:5] == [0.25 * RATE, 0.5 * RATE, 0.75 * RATE, RATE, RATE]
    assert rates(6, warmup=4, schedule="linear")[3:] == [RATE, RATE, 0.5 * RATE]
    assert rates(3, warmup=1, schedule="linear") == [RATE, RATE, 0.5 * RATE]


def test_a_warm_up_as_long_as_the_run_or_longer_never_falls() -> None:
    assert rates(4, warmup=4, schedule="linear") == [0.25 * RATE, 0.5 * RATE, 0.75 * RATE, RATE]
    assert rates(2, warmup=8, schedule="cosine") == [0.125 * RATE, 0.25 * RATE]


@given(st.integers(1, 60), st.integers(0, 80), st.sampled_from(["constant", "linear", "cosine"]))
def test_every_rate_is_positive_and_at_most_the_peak_and_after_the_warm_up_never_rises(
    steps: int, warmup: int, schedule: str
) -> None:
    every = rates(steps, warmup=warmup, schedule=schedule)
    assert all(0 < rate <= RATE for rate in every)
    assert every[:warmup] == sorted(every[:warmup])
    assert every[warmup:] == sorted(every[warmup:], reverse=True)


def test_norms_and_biases_are_not_decayed_and_nothing_is_in_two_groups(model: nn.Module) -> None:
    frozen = next(iter(model.parameters()))
    frozen.requires_grad_(False)
    decayed, kept = build_optimizer(model, OptimizerConfig(weight_decay=0.1, betas=(0.8, 0.9))).param_groups
    names = {id(p): name for name, p in model.named_parameters()}
    assert decayed["weight_decay"] == 0.1
    assert kept["weight_decay"] == 0.0
    assert decayed["betas"] == kept["betas"] == (0.8, 0.9)
    assert all("norm" in names[id(p)] for p in kept["params"])
    assert not any("norm" in names[id(p)] for p in decayed["params"])
    trained = sorted(names[id(p)] for p in model.parameters() if p is not frozen)
    assert sorted(names[id(p)] for group in (decayed, kept) for p in group["params"]) == trained


def test_decay_shrinks_matrices_and_leaves_vectors() -> None:
    layer = nn.Linear(3, 3)
    nn.init.ones_(layer.weight)
    nn.init.ones_(layer.bias)
    optimizer = build_optimizer(layer, OptimizerConfig(weight_decay=0.1))
    for p in layer.parameters():
        p.grad = torch.zeros_like(p)
    optimizer_step(layer, optimizer, rate=0.5, max_grad_norm=1.0)
    assert torch.allclose(layer.weight, torch.tensor(1 - 0.5 * 0.1))
    assert torch.equal(layer.bias, torch.ones(3))


def test_the_first_step_goes_by_the_given_rate_whatever_the_gradient() -> None:
    layer = nn.Linear(2, 2, bias=False)
    before = layer.weight.detach().clone()
    optimizer = build_optimizer(layer, OptimizerConfig(learning_rate=1.0))
    layer.weight.grad = torch.tensor([[3.0, -4.0], [1.0, 2.0]])
    norm = optimizer_step(layer, optimizer, rate=0.25, max_grad_norm=1e9)
    assert norm == pytest.approx(math.sqrt(30))
    assert torch.allclose(layer.weight.detach() - before, -0.25 * torch.tensor([[1.0, -1.0], [1.0, 1.0]]), atol=1e-6)
    assert layer.weight.grad is None


def test_the_gradient_is_clipped_to_its_norm_and_the_norm_before_is_told() -> None:
    layer = nn.Linear(2, 1, bias=False)
    seen = []

    class Spy(torch.optim.SGD):
        def step(self, closure: object = None) -> None:  # type: ignore[override]
            assert layer.weight.grad is not None
            seen.append(layer.weight.grad.clone())

    layer.weight.grad = torch.tensor([[3.0, 4.0]])
    assert optimizer_step(layer, Spy(layer.parameters(), lr=1.0), 1.0, max_grad_norm=1.0) == 5.0
    assert seen[0].norm() == pytest.approx(1.0, abs=1e-5)
    layer.weight.grad = torch.tensor([[0.3, 0.4]])
    optimizer_step(layer, Spy(layer.parameters(), lr=1.0), 1.0, max_grad_norm=1.0)
    assert torch.equal(seen[1], torch.tensor([[0.3, 0.4]]))


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_gradient_that_is_not_finite_is_discarded(bad: float) -> None:
    layer = nn.Linear(2, 2)
    optimizer = build_optimizer(layer, OptimizerConfig(weight_decay=0.1))
    for p in layer.parameters():
        p.grad = torch.ones_like(p)
    optimizer_step(layer, optimizer, 0.1, 1.0)
    weights = [p.detach().clone() for p in layer.parameters()]
    state = {key: value.clone() for entry in optimizer.state.values() for key, value in entry.items()}
    for p in layer.parameters():
        p.grad = torch.ones_like(p)
    layer.weight.grad[0, 1] = bad  # type: ignore[index]
    assert not math.isfinite(optimizer_step(layer, optimizer, 0.1, 1.0))
    assert all(torch.equal(p, w) for p, w in zip(layer.parameters(), weights, strict=True))
    assert all(p.grad is None for p in layer.parameters())
    after = {key: value for entry in optimizer.state.values() for key, value in entry.items()}
    assert all(torch.equal(after[key], state[key]) for key in state)
