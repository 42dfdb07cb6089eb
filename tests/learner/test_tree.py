"""Siblings that share their prompt's pass have the log-probs and gradients that each would have alone."""

from __future__ import annotations

import copy
import weakref
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
from models import CONFIGS, save_model
from torch import nn
from transformers import BloomConfig, BloomForCausalLM, PreTrainedModel

from groupwise.config import LoraConfig
from groupwise.learner import head
from groupwise.learner.batch import Inputs, micro_batches
from groupwise.learner.forward import Forward, fitted
from groupwise.learner.policy import load_policy
from groupwise.learner.tree import Grid, Tree
from groupwise.types import Rollout

from .cases import (
    CPU,
    KINDS,
    MAX_TOKENS,
    VOCABULARY,
    assert_same,
    gradients,
    make_learner,
    naive_logprobs,
    naive_policy_gradient,
    off_policy,
    rollout,
)
from .test_forward import gemma2, gpt2


def siblings(seed: int, prompts: int = 4, limit: int = VOCABULARY, longest: int = MAX_TOKENS) -> list[Rollout]:
    """Groups of 1 to 4 completions, ragged, in random order; some are empty or of one token, one prompt is long."""
    rng = Random(seed)

    def tokens(count: int) -> list[int]:
        return [rng.randrange(limit) for _ in range(count)]

    made = []
    for number in range(prompts):
        prompt = tokens(20 if number == 1 else rng.randint(1, 8))
        sizes = [0, 1, longest, rng.randint(2, longest)] if number == 0 else range(1, rng.randint(2, 5))
        made += [rollout(prompt, tokens(size), rng.gauss(0, 1)) for size in sizes]
    rng.shuffle(made)
    return made


def bloom() -> PreTrainedModel:
    """Has no positions but biases by distance, made from the mask."""
    return BloomForCausalLM(BloomConfig(vocab_size=VOCABULARY, hidden_size=16, n_layer=2, n_head=2)).eval()


@pytest.fixture(params=[*CONFIGS])
def architecture(request: pytest.FixtureRequest, tmp_path: Path) -> nn.Module:
    return load_policy(str(save_model(request.param, tmp_path)), CPU).model


def vocabulary(model: Any) -> int:
    return int(model.config.vocab_size)


@torch.no_grad()
def test_log_probs_are_those_of_each_sequence_alone(architecture: nn.Module) -> None:
    """Gemma 3 has a window of 16 tokens, shorter than the longest prompt, and one that begins in a prompt."""
    rollouts = siblings(0, limit=vocabulary(architecture))
    forward = fitted(architecture, 0.7, torch.float32)
    assert forward.shared
    assert forward.separate
    for budget in (1, 40, 10_000):
        for batch in micro_batches(rollouts, budget, CPU, shared=True):
            logprobs, _ = forward.completions(batch)
            for row, index in enumerate(batch.index):
                right = naive_logprobs(architecture, rollouts[index], 0.7)
                torch.testing.assert_close(logprobs[row, : len(right)], right, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_the_gradient_is_that_of_each_sequence_alone(kind: str, model: nn.Module) -> None:
    rollouts = off_policy(model, siblings(1))
    learner = make_learner(model, kind=kind, micro_tokens=50)
    assert learner._forward.shared
    (found,) = gradients(learner, rollouts)
    assert_same(found, naive_policy_gradient(model, rollouts, kind))


@pytest.mark.parametrize("rank", [0, 4], ids=["full", "lora"])
@pytest.mark.parametrize("kind", CONFIGS)
def test_both_paths_have_the_same_gradient(kind: str, rank: int, tmp_path: Path) -> None:
    folder = str(save_model(kind, tmp_path))
    found = []
    for fast in (True, False):
        model = load_policy(folder, CPU, lora=LoraConfig(rank=rank)).model
        rollouts = off_policy(model, siblings(2, limit=vocabulary(model)))
        learner = make_learner(model, beta=0.1, minibatches=2, old="learner")
        if not fast:
            learner._forward = Forward(model, 1.0, torch.float32)
        found.append(gradients(learner, rollouts))
    for ours, theirs in zip(*found, strict=True):
        assert_same(ours, theirs)


def test_recomputed_layers_know_the_tree(model: nn.Module) -> None:
    rollouts = off_policy(model, siblings(3))
    plain = gradients(make_learner(copy.deepcopy(model)), rollouts)
    recomputed = gradients(make_learner(model, gradient_checkpointing=True), rollouts)
    assert_same(recomputed[0], plain[0])


@pytest.mark.parametrize("kind", KINDS)
def test_slices_of_the_head_do_not_change_the_gradient(
    kind: str, model: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    rollouts = off_policy(model, siblings(4))
    (whole,) = gradients(make_learner(model, kind=kind), rollouts)
    monkeypatch.setattr(head, "SLICE_BYTES", 4 * VOCABULARY * (MAX_TOKENS - 2))  # some rows are longer
    sliced = make_learner(model, kind=kind)
    assert sliced._forward.slice == MAX_TOKENS - 2
    seen: list[int] = []
    model.get_output_embeddings().register_forward_hook(lambda _, given, out: seen.append(out.numel() // VOCABULARY))  # type: ignore[operator]
    assert_same(gradients(sliced, rollouts)[0], whole)
    again = sum(seen) - sum(len(r.completion.token_ids) for r in rollouts)
    assert (again > 0) == (kind in ("grpo", "dr_grpo", "gspo"))  # the others take a row that is too long in pieces


def test_models_that_attend_in_a_way_of_their_own_take_the_plain_path_and_say_so(
    caplog: pytest.LogCaptureFixture,
) -> None:
    for make, shared, separate in ((bloom, False, True), (gemma2, False, False), (gpt2, True, True)):
        torch.manual_seed(0)
        caplog.clear()
        model = make()
        learner = make_learner(model)
        name = type(model).__name__
        told = [r.getMessage().split(": ")[0] for r in caplog.records if r.name.startswith("groupwise")]
        expected = {f"{name} attends in a way of its own": not shared, f"{name} changes its logits": not separate}
        assert told == [line for line, said in expected.items() if said]
        assert (learner._forward.shared, learner._forward.separate) == (shared, separate)
        rollouts = off_policy(model, siblings(5))
        assert_same(gradients(learner, rollouts)[0], naive_policy_gradient(model, rollouts, "dapo"), 1e-4)


def test_a_rollout_without_an_advantage_is_not_learned_from(model: nn.Module) -> None:
    some = off_policy(model, siblings(6))
    for r in some[::2]:
        r.advantage = 0.0
    seen: list[int] = []
    model.get_input_embeddings().register_forward_hook(lambda _, ids, out: seen.append(ids[0].numel()))  # type: ignore[operator]
    expected = naive_policy_gradient(model, some, "dapo")
    learner, taught = make_learner(model), [r for r in some[1::2] if r.completion.token_ids]
    seen.clear()
    (found,) = gradients(learner, some)
    prompts = sum(
        map(len, {r.prompt.token_ids for r in taught})
    )  # each is read once, and of completions all but the last
    assert sum(seen) == prompts + sum(len(r.completion.token_ids) - 1 for r in taught)
    assert_same(found, expected)


def test_only_one_micro_batch_holds_the_masks_of_its_tree(model: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    rollouts = off_policy(model, siblings(9))
    learner, states = make_learner(model, micro_tokens=40, old="learner", epochs=2), Forward.states
    trees: list[weakref.ref[Tree]] = []

    def watched(forward: Forward, inputs: Inputs) -> torch.Tensor:
        trees.append(weakref.ref(inputs.given["groupwise_tree"]))
        assert sum(tree() is not None for tree in trees) == 1
        return states(forward, inputs)

    monkeypatch.setattr(Forward, "states", watched)
    learner.update(rollouts)
    assert len(trees) >= 6


def test_where_nobody_has_an_advantage_the_step_is_made_with_a_gradient_of_zero(model: nn.Module) -> None:
    rollouts = off_policy(model, siblings(7))
    for r in rollouts:
        r.advantage = 0.0
    (found,) = gradients(make_learner(model), rollouts)
    assert not found.any()
    metrics = make_learner(model).update(rollouts)
    assert metrics["loss"] == metrics["policy/grad_norm"] == 0


def test_a_grid_takes_and_gives_back() -> None:
    x = torch.arange(24.0, dtype=torch.float64).view(6, 2, 2).requires_grad_()
    for lengths in ([3, 1, 2], [2, 2, 2], [0, 6]):
        grid = Grid(lengths, CPU)
        padded = grid.pad(x)
        assert padded.shape == (len(lengths), 2, max(lengths), 2)
        assert padded.sum() == x.sum()
        assert torch.equal(grid.flat(padded), x)
        assert torch.autograd.gradcheck(lambda t, g=grid: g.flat(g.pad(t) * 2), x)


def test_what_a_completion_sees() -> None:
    tree = Tree([3, 1], [2, 2, 1], [0, 1, 1], CPU)
    assert tree.seen_by_prompts(None) is None
    assert tree.seen_by_prompts(3) is None
    assert tree.seen_by_completions(None)[:, 0].int().tolist() == [
        [[1, 1, 1, 1, 0], [1, 1, 1, 1, 1]],
        [[1, 0, 0, 1, 0], [1, 0, 0, 1, 1]],
        [[1, 0, 0, 1, 0], [1, 0, 0, 1, 1]],
    ]
    assert tree.seen_by_completions(2)[:2, 0].int().tolist() == [
        [[0, 0, 1, 1, 0], [0, 0, 0, 1, 1]],
        [[1, 0, 0, 1, 0], [0, 0, 0, 1, 1]],
    ]
    window = tree.seen_by_prompts(2)
    assert window is not None
    assert window.int().tolist() == [[1, 0, 0], [1, 1, 0], [0, 1, 1]]
