"""The policy update against the same computed one sequence at a time, without padding or micro-batches."""

from __future__ import annotations

import copy
import io
import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from groupwise.config import UpdateConfig
from groupwise.learner.optimizer import build_optimizer, learning_rate, optimizer_step
from groupwise.loss import DEFAULT_CLIP
from groupwise.run.doing import listening

from .cases import (
    KINDS,
    MAX_TOKENS,
    VOCABULARY,
    assert_same,
    flat_weights,
    gradients,
    make_learner,
    naive_gradient,
    naive_logprobs,
    naive_policy_gradient,
    naive_scores,
    off_policy,
    on_policy,
    padded,
    random_rollouts,
    rollout,
)

KLS: list[dict[str, Any]] = [{}, *({"beta": 0.2, "kl": kl} for kl in ("k2", "k3", "k3_corrected"))]

every_kind = pytest.mark.parametrize("kind", KINDS)


def moved(model: nn.Module, amount: float = 0.02, seed: int = 0) -> nn.Module:
    """The model with its weights a little changed, in place."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in model.parameters():
            p += amount * torch.randn(p.shape, generator=generator)
    return model


@every_kind
@pytest.mark.parametrize("mask_cut", [False, True])
@pytest.mark.parametrize("kl", KLS, ids=lambda kl: kl.get("kl", "no KL"))
def test_micro_batches_never_change_the_gradient(
    kind: str, kl: dict[str, Any], mask_cut: bool, model: nn.Module
) -> None:
    for seed, old in ((0, "engine"), (1, "learner")):
        rollouts = off_policy(model, random_rollouts(seed, count=7), seed)
        learner = make_learner(model, kind=kind, mask_cut=mask_cut, old=old, **kl)
        moved(model)  # away from the reference
        found = []
        for micro_tokens in (1, 30, 50, 10_000):
            learner.micro_tokens = micro_tokens
            found += gradients(learner, rollouts)
        assert len(found) == 4
        for other in found[:3]:
            assert_same(other, found[3])


@every_kind
def test_the_gradient_is_that_of_the_loss_on_each_sequence_alone(kind: str, model: nn.Module) -> None:
    rollouts = off_policy(model, random_rollouts(3))
    (found,) = gradients(make_learner(model, kind=kind, micro_tokens=40), rollouts)
    assert_same(found, naive_policy_gradient(model, rollouts, kind))


@pytest.mark.parametrize("kl", KLS[1:], ids=lambda kl: kl["kl"])
def test_the_kl_is_relative_to_the_weights_at_the_start(kl: dict[str, Any], model: nn.Module) -> None:
    rollouts = off_policy(model, random_rollouts(4))
    with torch.no_grad():
        ref_logprobs = padded([naive_logprobs(model, r) for r in rollouts])
    learner = make_learner(model, kind="dapo", **kl)
    moved(model)
    (found,) = gradients(learner, rollouts)
    assert_same(found, naive_policy_gradient(model, rollouts, "dapo", ref_logprobs=ref_logprobs, **kl))
    without = naive_policy_gradient(model, rollouts, "dapo")
    assert (found - without).norm() > 0.01 * without.norm()


def test_k1_goes_into_the_reward_and_not_into_the_gradient(model: nn.Module) -> None:
    rollouts = off_policy(model, random_rollouts(5))
    (found,) = gradients(make_learner(model, beta=0.5, kl="k1"), rollouts)
    assert_same(found, naive_policy_gradient(model, rollouts, "dapo"))
    assert "policy/kl" not in make_learner(model, beta=0.5, kl="k1").update(rollouts)


@pytest.mark.parametrize("kind", ["grpo", "dapo"])
def test_completions_cut_at_the_limit_are_taken_out_of_the_loss(kind: str, model: nn.Module) -> None:
    rollouts = off_policy(model, random_rollouts(6))
    cut = [r.completion.finish_reason == "length" for r in rollouts]
    assert 0 < sum(cut) < len(cut)
    mask = padded([torch.full((len(r.completion.token_ids),), not c) for r, c in zip(rollouts, cut, strict=True)])
    (found,) = gradients(make_learner(model, kind=kind, mask_cut=True), rollouts)
    assert_same(found, naive_policy_gradient(model, rollouts, kind, mask=mask))


@pytest.mark.parametrize("temperature", [0.5, 2.0])
def test_the_temperature_is_that_of_sampling(temperature: float, model: nn.Module) -> None:
    rollouts = on_policy(model, random_rollouts(7), temperature)
    learner = make_learner(model, temperature=temperature)
    metrics = learner.update(rollouts)
    assert metrics["policy/mismatch"] < 1e-5
    assert metrics["policy/ratio_max"] == pytest.approx(1, abs=1e-4)
    assert make_learner(model).update(rollouts)["policy/mismatch"] > 1e-2


def test_the_first_update_is_on_policy(model: nn.Module) -> None:
    """Ratio 1, no mismatch, nothing clipped, and the plain policy gradient: the mean over tokens of -A grad log pi."""
    rollouts = on_policy(model, random_rollouts(8))
    advantages = torch.tensor([r.advantage for r in rollouts])
    expected = naive_gradient(model, rollouts, lambda lp, mask: -(lp * mask * advantages[:, None]).sum() / mask.sum())
    (found,) = gradients(make_learner(model, micro_tokens=40), rollouts)
    assert_same(found, expected)
    with torch.no_grad():
        scores = torch.cat([naive_scores(model, r)[: len(r.completion.token_ids)] for r in rollouts])
    metrics = make_learner(model, micro_tokens=40).update(rollouts)
    assert metrics["policy/ratio_max"] == pytest.approx(1, abs=1e-5)
    assert metrics["policy/mismatch"] < 1e-6
    assert metrics["policy/clip_fraction"] == 0
    assert metrics["policy/entropy"] == pytest.approx(float(-(scores.exp() * scores).sum(-1).mean()), rel=1e-5)
    assert metrics["policy/grad_norm"] == pytest.approx(float(expected.norm()), rel=1e-5)
    assert metrics["policy/learning_rate"] == 1e-3


@pytest.mark.parametrize("cap", [0.9, 2.0])
def test_truncated_importance_sampling_by_hand(cap: float, model: nn.Module) -> None:
    """old: learner. Ratio 1, and each token's loss times min(pi_old / pi_engine, cap)."""
    rollouts = off_policy(model, random_rollouts(9), spread=1.0)
    advantages = torch.tensor([r.advantage for r in rollouts])
    with torch.no_grad():
        apart = [naive_logprobs(model, r) - torch.tensor(r.completion.logprobs) for r in rollouts]
    weights = padded([difference.exp().clamp(max=cap) for difference in apart])
    assert (weights[weights > 0] < cap).any()
    assert (weights == cap).any()
    expected = naive_gradient(
        model, rollouts, lambda lp, mask: -(weights * lp * mask * advantages[:, None]).sum() / mask.sum()
    )
    (found,) = gradients(make_learner(model, old="learner", importance_cap=cap, micro_tokens=40), rollouts)
    assert_same(found, expected)
    metrics = make_learner(model, old="learner", importance_cap=cap).update(rollouts)
    assert metrics["policy/ratio_max"] == pytest.approx(1, abs=1e-5)
    assert metrics["policy/mismatch"] == pytest.approx(float(torch.cat(apart).abs().mean()), rel=1e-4)


@pytest.mark.parametrize(
    ("several", "passes", "times"), [({}, 1, 1), ({"minibatches": 2}, 3, 2), ({"epochs": 2}, 3, 3)]
)
def test_the_learners_old_log_probs_cost_a_pass_only_where_the_policy_moves_on(
    several: dict[str, int], passes: int, times: int, model: nn.Module
) -> None:
    rollouts = off_policy(model, random_rollouts(20), spread=1.0)
    rollouts[0] = replace(rollouts[0], advantage=0.0)  # teaches nothing, so nobody asks for its log-probs
    seen: list[int] = []
    model.get_input_embeddings().register_forward_hook(lambda _, ids, out: seen.append(ids[0].numel()))  # type: ignore[operator]
    learner = make_learner(model, old="learner", **several)
    seen.clear()
    learner.update(rollouts)
    assert len(seen) == passes
    taught = [r for r in rollouts[1:] if r.completion.token_ids]
    once = sum(len(r.prompt.token_ids) + len(r.completion.token_ids) - 1 for r in taught)
    assert sum(seen) == once * times


def by_hand(model: nn.Module, rollouts: list[Any], kind: str, plan: list[range], config: UpdateConfig) -> list[float]:
    """Optimizer steps on the planned parts in turn; returns the norms of their gradients."""
    optimizer = build_optimizer(model, config)
    norms = []
    for chosen in plan:
        gradient = naive_policy_gradient(model, [rollouts[i] for i in chosen], kind)
        at = 0
        for p in model.parameters():
            p.grad = gradient[at : at + p.numel()].view(p.shape).clone()
            at += p.numel()
        norms.append(optimizer_step(model, optimizer, learning_rate(config, 0, 10), config.max_grad_norm))
    return norms


@pytest.mark.parametrize("kind", ["dapo", "gspo"])
def test_several_epochs_of_several_minibatches(kind: str, model: nn.Module) -> None:
    rollouts = on_policy(model, random_rollouts(10, count=7))
    other = copy.deepcopy(model)
    config = {"epochs": 2, "minibatches": 3, "learning_rate": 3e-3, "max_grad_norm": 0.5, "weight_decay": 0.1}
    before = flat_weights(model)
    metrics = make_learner(model, kind=kind, micro_tokens=40, **config).update(rollouts)
    plan = [range(2), range(2, 5), range(5, 7)] * 2
    norms = by_hand(other, rollouts, kind, plan, UpdateConfig(**config))
    assert_same(flat_weights(model) - before, flat_weights(other) - before, 1e-3)  # Adam divides by small numbers
    assert metrics["policy/grad_norm"] == pytest.approx(sum(norms) / 6, rel=1e-3)
    assert metrics["policy/ratio_max"] > 1.001  # of the later steps
    assert metrics["policy/mismatch"] < 1e-6  # of the first step alone


def test_the_loss_told_is_the_mean_over_optimizer_steps(model: nn.Module) -> None:
    rollouts = off_policy(model, random_rollouts(11))
    once = make_learner(copy.deepcopy(model), learning_rate=1e-12).update(rollouts)
    again = make_learner(copy.deepcopy(model), learning_rate=1e-12, epochs=3).update(rollouts)
    assert again["loss"] == pytest.approx(once["loss"], rel=1e-4)
    assert once["loss"] != 0


def test_more_minibatches_than_rollouts_are_as_many_as_there_are(model: nn.Module) -> None:
    rollouts = on_policy(model, random_rollouts(12, count=2))
    assert len(gradients(make_learner(model, minibatches=5), rollouts)) == 2


def test_it_says_how_many_rollouts_it_has_learned_from(model: nn.Module) -> None:
    heard: list[tuple[str, int, int]] = []
    rollouts = [replace(r, advantage=1.0) for r in random_rollouts(3, count=8) if r.completion.token_ids]
    with listening(lambda *what: heard.append(what)):
        make_learner(model, minibatches=2, micro_tokens=1).update(rollouts)
    assert heard == [("update", done, 7) for done in range(1, 8)]


def test_shares_are_of_the_tokens_that_are_learned(model: nn.Module) -> None:
    """A clipped completion and an unclipped one; a third, cut, is no part of the loss."""
    rollouts = on_policy(model, [rollout([1], [5] * 4), rollout([2], [6] * 4), rollout([3], [7] * 8, cut=True)])
    shifted = replace(rollouts[0].completion, logprobs=tuple(lp - 1 for lp in rollouts[0].completion.logprobs))
    rollouts[0] = replace(rollouts[0], completion=shifted)  # ratio e, beyond any clip
    for micro_tokens in (1, 1000):
        metrics = make_learner(copy.deepcopy(model), mask_cut=True, micro_tokens=micro_tokens).update(rollouts)
        assert metrics["policy/clip_fraction"] == pytest.approx(0.5)
        assert metrics["policy/ratio_max"] == pytest.approx(math.e, rel=1e-4)
        assert metrics["policy/mismatch"] == pytest.approx(4 / 8, rel=1e-4)


def test_the_clip_may_be_given(model: nn.Module) -> None:
    rollouts = off_policy(model, random_rollouts(13))
    low, high = DEFAULT_CLIP["dapo"]
    same = gradients(make_learner(model, clip_low=low, clip_high=high), rollouts)
    tight = gradients(make_learner(model, clip_low=0.0, clip_high=0.0), rollouts)
    assert torch.equal(same[0], gradients(make_learner(model), rollouts)[0])
    assert not torch.allclose(tight[0], same[0])


def test_dr_grpo_divides_by_the_longest_completion_allowed(model: nn.Module) -> None:
    rollouts = on_policy(model, random_rollouts(14))
    advantages = torch.tensor([r.advantage for r in rollouts])
    expected = naive_gradient(
        model, rollouts, lambda lp, mask: -(lp * mask * advantages[:, None]).sum() / (len(rollouts) * MAX_TOKENS)
    )
    assert_same(gradients(make_learner(model, kind="dr_grpo"), rollouts)[0], expected)


def test_the_reference_kl_is_the_log_ratio_of_the_whole_completion(model: nn.Module) -> None:
    rollouts = random_rollouts(15)
    learner = make_learner(model, beta=0.1, kl="k1", micro_tokens=40)
    same = learner.reference_kl(on_policy(model, rollouts))
    assert same == pytest.approx([0.0] * len(rollouts), abs=1e-4)
    with torch.no_grad():
        ref = [float(naive_logprobs(model, r).sum()) for r in rollouts]
    now = on_policy(moved(model), rollouts)
    found = learner.reference_kl(now)
    assert found == pytest.approx([sum(r.completion.logprobs) - lp for r, lp in zip(now, ref, strict=True)], abs=1e-4)
    assert max(map(abs, found)) > 0.01


@pytest.mark.parametrize("kind", KINDS)
def test_completions_that_are_all_empty_move_nothing(kind: str, model: nn.Module) -> None:
    before = flat_weights(model)
    metrics = make_learner(model, kind=kind, beta=0.1).update([rollout([1, 2], []), rollout([3], [])])
    assert torch.equal(flat_weights(model), before)
    assert metrics["loss"] == metrics["policy/grad_norm"] == 0
    assert all(math.isfinite(value) for value in metrics.values())


def test_an_update_without_rollouts_counts_but_moves_nothing(model: nn.Module) -> None:
    learner = make_learner(model, schedule="linear", steps=4)
    before = flat_weights(model)
    told = learner.update([])
    assert told.items() >= {"loss": 0.0, "policy/grad_norm": 0.0, "policy/learning_rate": 1e-3}.items()
    assert torch.equal(flat_weights(model), before)
    assert learner.version == 1
    assert learner.update(on_policy(model, random_rollouts(16)))["policy/learning_rate"] == 0.75e-3


def test_a_gradient_that_is_not_finite_moves_nothing_and_is_told(model: nn.Module) -> None:
    rollouts = on_policy(model, random_rollouts(17))
    learner = make_learner(model)
    learner.update(rollouts)
    before = flat_weights(model)
    spoilt = [*rollouts[1:], replace(rollouts[0], advantage=math.inf)]
    assert not math.isfinite(learner.update(spoilt)["policy/grad_norm"])
    assert torch.equal(flat_weights(model), before)
    assert math.isfinite(learner.update(rollouts)["policy/grad_norm"])
    assert not torch.equal(flat_weights(model), before)


def test_learning_makes_what_was_good_more_likely(model: nn.Module) -> None:
    good, bad = rollout([1, 2], [10, 11, 12], 1.0), rollout([1, 2], [20, 21, 22], -1.0)
    learner = make_learner(model, learning_rate=3e-3)
    before = [float(naive_logprobs(model, r).detach().sum()) for r in (good, bad)]
    for _ in range(4):
        learner.update(on_policy(model, [good, bad]))
    after = [float(naive_logprobs(model, r).detach().sum()) for r in (good, bad)]
    assert after[0] > before[0] + 1
    assert after[1] < before[1] - 1


def test_dropout_is_off_where_the_policy_learns(folder: Any) -> None:
    from transformers import GPT2Config, GPT2LMHeadModel

    from groupwise.learner.policy import load_policy

    noisy = GPT2LMHeadModel(GPT2Config(vocab_size=VOCABULARY, n_positions=32, n_embd=16, n_layer=1, n_head=2))
    there = folder.parent / "gpt2"
    noisy.save_pretrained(there)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (there / name).write_bytes((folder / name).read_bytes())
    model = load_policy(str(there), torch.device("cpu")).model
    assert max(module.p for module in model.modules() if isinstance(module, nn.Dropout)) > 0
    metrics = make_learner(model, beta=0.1).update(on_policy(copy.deepcopy(model).eval(), random_rollouts(18)))
    assert metrics["policy/mismatch"] < 1e-5
    assert metrics["policy/kl"] == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize("loss", [{}, {"beta": 0.1, "old": "learner"}], ids=["plain", "with a reference"])
def test_a_saved_state_continues_to_the_bit(loss: dict[str, Any], model: nn.Module) -> None:
    batches = [off_policy(model, random_rollouts(seed)) for seed in range(4)]
    fresh = copy.deepcopy(model)
    options: dict[str, Any] = {"schedule": "cosine", "warmup": 1, "weight_decay": 0.1, "epochs": 2, **loss}
    learner = make_learner(model, **options)
    learner.update(batches[0])
    learner.update(batches[1])
    file = io.BytesIO()
    torch.save(learner.state(), file)
    file.seek(0)
    other = make_learner(fresh, **options)
    other.load_state(torch.load(file, weights_only=True))
    assert other.version == 2
    for batch in batches[2:]:
        assert learner.update(batch) == other.update(batch)
    assert torch.equal(flat_weights(learner.model), flat_weights(other.model))


def test_the_named_weights_are_the_live_ones(model: nn.Module) -> None:
    learner = make_learner(model)
    named: dict[str, Tensor] = dict(learner.weights())
    assert set(named) == {name for name, _ in model.named_parameters()}
    learner.update(on_policy(model, random_rollouts(19)))
    assert all(named[name] is p for name, p in model.named_parameters())
