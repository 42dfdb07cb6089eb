"""When memory runs out the same update is made in smaller pieces, and remembered."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from groupwise.config import LoraConfig
from groupwise.learner.backoff import out_of_memory, within_memory
from groupwise.learner.batch import Inputs
from groupwise.learner.forward import Forward
from groupwise.learner.lora import attach
from groupwise.types import UserError

from .cases import assert_same, flat_weights, gradients, make_learner, off_policy, random_rollouts

ERRORS = {
    "GPU": torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    "CPU": RuntimeError("[enforce fail at alloc_cpu.cpp:118] err == 0. DefaultCPUAllocator: can't allocate memory"),
    "cuBLAS": RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    "Python": MemoryError(),
}
Room = Callable[[int], list[int]]


@pytest.fixture
def room(monkeypatch: pytest.MonkeyPatch) -> Room:
    """room(n): from now on a forward pass of more than n tokens runs out of memory; returns the sizes of all passes."""

    def limit(tokens: int, error: Exception = ERRORS["GPU"]) -> list[int]:
        seen: list[int] = []

        def states(forward: Forward, inputs: Inputs) -> Any:
            seen.append(inputs.given["input_ids"].numel())
            out = original(forward, inputs)
            if seen[-1] > tokens:
                raise error
            return out

        monkeypatch.setattr(Forward, "states", states)
        return seen

    original = Forward.states
    return limit


def test_what_says_that_memory_ran_out() -> None:
    assert all(map(out_of_memory, ERRORS.values()))
    assert not any(map(out_of_memory, [RuntimeError("shapes"), ValueError("can't allocate memory"), KeyError()]))


def test_half_as_many_until_it_fits_and_never_less_than_the_longest_row() -> None:
    def work(limit: int) -> Callable[[int], list[int]]:
        def attempt(tokens: int) -> list[int]:
            tried.append(tokens)
            if tokens > limit:
                raise MemoryError
            return tried

        tried: list[int] = []
        return attempt

    assert within_memory(work(99), 64, 20, 25, []) == ([64], 64)
    assert within_memory(work(63), 64, 20, 25, []) == ([64, 32], 32)
    assert within_memory(work(20), 64, 20, 25, []) == ([64, 32, 20], 20)
    with pytest.raises(UserError, match=r"memory: one row of 25 tokens does not fit; do this, or that"):
        within_memory(work(19), 64, 20, 25, ["do this", "that"])
    with pytest.raises(ZeroDivisionError):
        within_memory(lambda tokens: tokens // 0, 64, 20, 25, [])


@pytest.mark.parametrize(("error", "old"), [("CPU", "engine"), ("GPU", "learner")])
def test_the_gradient_and_the_numbers_are_the_same(error: str, old: str, model: nn.Module, room: Any) -> None:
    rollouts = off_policy(model, random_rollouts(0, count=8))
    options: dict[str, Any] = {"minibatches": 2, "beta": 0.1, "old": old}
    expected = gradients(make_learner(model, **options), rollouts)
    told = make_learner(copy.deepcopy(model), **options).update(rollouts)
    seen = room(40, ERRORS[error])
    learner = make_learner(model, micro_tokens=256, **options)
    found = gradients(learner, rollouts)
    assert max(seen) > 40 >= max(seen[-8:])
    assert learner.micro_tokens == 32
    for ours, theirs in zip(found, expected, strict=True):
        assert_same(ours, theirs)
    ours = make_learner(model, micro_tokens=256, **options).update(rollouts)
    assert (ours.pop("memory/micro_tokens"), told.pop("memory/micro_tokens")) == (32, 1024)
    assert ours == pytest.approx(told, rel=1e-4, abs=1e-6)


def test_of_an_attempt_that_fails_half_way_nothing_is_left(model: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    rollouts = off_policy(model, random_rollouts(0, count=8))
    expected = make_learner(copy.deepcopy(model), micro_tokens=64)
    told = expected.update(rollouts)
    learner = make_learner(model, micro_tokens=64)
    original, passes = Forward.states, itertools.count(1)

    def states(*inputs: Any) -> Any:
        if next(passes) == 2:  # the first micro-batch has left its gradient and its numbers
            raise ERRORS["GPU"]
        return original(*inputs)

    monkeypatch.setattr(Forward, "states", states)
    assert learner.update(rollouts) == pytest.approx(told | {"memory/micro_tokens": 32}, rel=1e-5, abs=1e-6)
    assert_same(flat_weights(learner.model), flat_weights(expected.model))


def test_the_size_is_in_the_state_and_used_again(model: nn.Module, room: Any) -> None:
    room(40)
    live = make_learner(model, micro_tokens=128)
    live.update(off_policy(model, random_rollouts(0)))
    assert live.micro_tokens == 32
    resumed = make_learner(copy.deepcopy(model), micro_tokens=128)
    resumed.load_state(copy.deepcopy(live.state()))
    seen = room(10**6)  # there is room again, but a resumed run repeats what it did
    rollouts = off_policy(model, random_rollouts(1))
    assert live.update(rollouts) == resumed.update(rollouts)
    assert max(seen) <= 32
    assert torch.equal(flat_weights(live.model), flat_weights(resumed.model))


def test_a_row_that_does_not_fit_is_told(model: nn.Module, room: Any) -> None:
    learner = make_learner(model, micro_tokens=64)
    room(10)
    before = flat_weights(model)
    with pytest.raises(UserError, match=r"memory: one row of [0-9]+ tokens does not fit"):
        learner.update(off_policy(model, random_rollouts(0)))
    assert torch.equal(flat_weights(model), before)


def test_an_optimizer_that_does_not_fit_is_told(model: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    def step(*args: Any) -> None:
        raise ERRORS["GPU"]

    monkeypatch.setattr(torch.optim.AdamW, "step", step)
    rollouts = off_policy(model, random_rollouts(0))
    with pytest.raises(
        UserError, match=r"memory: the optimizer's state does not fit; train adapters only \(lora.rank 8\)$"
    ):
        make_learner(model).update(rollouts)


def test_advice_that_was_taken_is_not_given_again(model: nn.Module, room: Any) -> None:
    adapted: Any = copy.deepcopy(model)
    attach(adapted, LoraConfig(rank=2), 0)
    checkpointing, adapters = "set update.gradient_checkpointing true", "train adapters only (lora.rank 8)"
    reference = "set loss.beta 0, which needs no reference"
    expected = {
        make_learner(copy.deepcopy(model), beta=0.1): [checkpointing, adapters, reference],
        make_learner(copy.deepcopy(model), gradient_checkpointing=True): [adapters],
        make_learner(adapted, beta=0.1): [checkpointing, "take a smaller model"],
    }
    rollouts = off_policy(model, random_rollouts(0))
    room(10)
    for learner, advice in expected.items():
        with pytest.raises(UserError) as raised:
            learner.update(rollouts)
        assert str(raised.value).partition("; ")[2].split(", or ") == ["lower rollout.max_tokens", *advice]


def test_another_error_is_not_hidden(model: nn.Module, room: Any) -> None:
    room(10, RuntimeError("shapes do not fit"))
    with pytest.raises(RuntimeError, match="shapes do not fit"):
        make_learner(model).update(off_policy(model, random_rollouts(0)))
