"""Grouping and estimating inside a run: the rewards of an update never enter its own baselines."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from groupwise.advantage import estimate, global_advantages, hierarchical_advantages, rloo_advantages
from groupwise.config import Recipe
from groupwise.grouping.prior import RunningPrior
from groupwise.grouping.tracker import Tracker
from groupwise.stages.comparison import Comparison, estimator_of, needs_embeddings
from groupwise.types import Completion, Prompt, Rollout

SAID = Completion(token_ids=(1,), logprobs=(0.0,), text="", finish_reason="stop", policy_version=0)
HARD = {"easy": 0.8, "hard": 0.2}


def batch(rng: np.random.Generator, prompts: int = 16, size: int = 2) -> list[Rollout]:
    """Rollouts of prompts of two domains that differ in difficulty."""
    out = []
    for _ in range(prompts):
        domain = "easy" if rng.random() < 0.5 else "hard"
        prompt = Prompt(id=f"{domain}{rng.integers(10**9)}", task=domain, domain=domain, text="?", token_ids=(1, 2))
        marks = rng.random(size) < HARD[domain]
        out += [Rollout(prompt=prompt, completion=SAID, reward=float(mark)) for mark in marks]
    return out


def comparison(**sections: Any) -> Comparison:
    return Comparison(Recipe.model_validate(sections), None, 2**30)


def run(made: Comparison, updates: int, size: int = 2) -> list[list[Rollout]]:
    rng = np.random.default_rng(0)
    batches = [batch(rng, size=size) for _ in range(updates)]
    for rollouts in batches:
        made.estimate(rollouts, made.group(rollouts))
    return batches


def test_at_first_it_is_the_global_baseline() -> None:
    (rollouts,) = run(comparison(), 1)
    rewards = [r.reward for r in rollouts]
    levels = [[r.group] for r in rollouts]
    np.testing.assert_allclose([r.advantage for r in rollouts], global_advantages(rewards, levels))


def test_it_learns_that_domains_differ() -> None:
    made = comparison()
    run(made, 30)
    row = made.report()
    assert row["variance/task"] > 0.05
    assert row["variance/domain"] == 0  # each has one task, which it cannot be told from
    assert row["baseline/error/hierarchical"] < row["baseline/error/global"]
    assert sum(value for name, value in row.items() if name.startswith("groups/share/")) == pytest.approx(1)


@pytest.mark.parametrize("kind", ["hierarchical", "rloo", "global", "jspo"])  # spo divides by the batch's deviation
def test_an_advantage_moves_one_to_one_with_its_own_reward(kind: str) -> None:
    """The baseline does not contain it: the others fixed, A(r + d) - A(r) is d in units of a scale fixed before."""

    def advantage(reward: float) -> float:
        made = comparison(advantage={"kind": kind, **({} if kind == "hierarchical" else {"scale": "none"})})
        run(made, 12)
        rollouts = batch(np.random.default_rng(7))
        rollouts[3].reward = reward
        made.estimate(rollouts, made.group(rollouts))
        return rollouts[3].advantage

    one, two, three = advantage(0.0), advantage(1.0), advantage(2.0)
    assert two - one == pytest.approx(three - two)
    assert two > one


FAMILIES = np.random.default_rng(5).normal(size=(6, 8)).astype(np.float32)


def familiar(rng: np.random.Generator, pool: int = 60, rates: Any = None) -> list[Rollout]:
    """Pairs of rollouts of 16 recurring prompts, with embeddings of 6 families; `rates`: by family."""
    out = []
    for number in rng.permutation(pool)[:16].tolist():
        family = number % len(FAMILIES)
        own = np.random.default_rng(number)
        near = FAMILIES[family] + 0.1 * own.normal(size=8).astype(np.float32)
        rate = own.random() if rates is None else rates[family]
        prompt = Prompt(id=str(number), task="t", domain="d", text="?", token_ids=(1,) * (number + 1), embedding=near)
        out += [Rollout(prompt=prompt, completion=SAID, reward=float(rng.random() < rate)) for _ in range(2)]
    return out


def after(updates: int, rates: Any = None, **sections: Any) -> tuple[Comparison, list[float]]:
    """A comparison after so many updates of `familiar` prompts, and the advantages of the last one."""
    made, rng = comparison(**sections), np.random.default_rng(1)
    for _ in range(updates):
        rollouts = familiar(rng, rates=rates)
        made.estimate(rollouts, made.group(rollouts))
    return made, [r.advantage for r in rollouts]


def test_transfer_that_is_off_changes_nothing() -> None:
    """Not even what the past says of a prompt."""
    with_transfer, with_history, without = (
        after(25, advantage=advantage)[1] for advantage in ({"transfer": "kernel"}, {}, {"history": 0})
    )
    assert with_transfer == with_history
    assert with_history != without


def test_transfer_that_is_on_pays_and_keeps_the_past_of_the_batchs_prompts() -> None:
    rates = [0.05, 0.95, 0.1, 0.9, 0.2, 0.8]
    made, _ = after(40, rates, advantage={"transfer": "kernel"})
    assert made.report()["baseline/error/kernel"] < 0.9 * made.report()["baseline/error/global"]
    assert made._transfer.read(made._memory.variance.estimates())[1] > 0
    rollouts = familiar(np.random.default_rng(2))
    groups = made.group(rollouts)
    evidence = made._memory.evidence([r.prompt.id for r in rollouts], groups.levels)
    known = made._known([], groups, evidence, evidence)
    kept = known["evidence"].history[2][:, -1]
    assert set(kept) == set(groups.prompt)
    assert len(kept) < len(made._memory.history)
    np.testing.assert_array_equal(known["features"][len(rollouts) :], [_embedding(rollouts, i) for i in kept])


def _embedding(rollouts: list[Rollout], prompt: int) -> Any:
    return next(r.prompt.embedding for r in rollouts if r.path[-1] == prompt)


@pytest.mark.parametrize("level", ["learned", "flat", "prompt"])
def test_transfer_does_not_bring_back_levels_that_are_not_in_use(level: str) -> None:
    made, _ = after(10, grouping={"kind": "clusters"}, advantage={"transfer": "kernel"})
    made._transfer.read = lambda variances: (np.full(5, 0.1), 0.1)  # type: ignore[method-assign]
    made._grouping._fallback.level = level  # type: ignore[assignment]
    rollouts = familiar(np.random.default_rng(3))
    groups = made.group(rollouts)
    evidence = made._memory.evidence([r.prompt.id for r in rollouts], groups.levels)
    known = made._known([], groups, evidence, evidence)
    assert (known["kernel_variance"] > 0) == (level != "prompt")
    if level != "prompt":
        assert (known["evidence"].variances[1:3] > 0).all() == (level == "learned")


def test_what_is_recorded_is_the_level_that_was_used() -> None:
    made, _ = after(12, grouping={"kind": "clusters"})
    rollouts = familiar(np.random.default_rng(6))
    groups = made.group(rollouts)
    before = made._grouping.level, made._grouping.reason
    made._grouping._fallback.level = other = "prompt" if before[0] != "prompt" else "flat"  # as learning may decide
    assert made.fallback == before
    assert made.report()["groups/fallback"] == ("learned", "flat", "prompt").index(before[0])
    made.estimate(rollouts, groups)
    made._grouping._fallback.level = other
    made.group(rollouts)
    assert made.fallback[0] == other


def test_levels_that_are_not_in_use_have_no_say() -> None:
    grouping, history = {"kind": "clusters"}, {"history": 0}
    found: dict[str, Any] = {}
    for level in ("learned", "flat", "prompt"):
        made, _ = after(12, [0.1, 0.9, 0.1, 0.9, 0.1, 0.9], grouping=grouping, advantage=history)
        made._grouping._fallback.level = level  # type: ignore[assignment]
        rollouts = familiar(np.random.default_rng(6), rates=[0.1, 0.9, 0.1, 0.9, 0.1, 0.9])
        groups = made.group(rollouts)
        evidence = made._memory.evidence([r.prompt.id for r in rollouts], groups.levels)
        made.estimate(rollouts, groups)
        row, rewards = made.report(), np.array([r.reward for r in rollouts])
        found[level] = np.array([r.advantage for r in rollouts]) * evidence.scale
        if level == "prompt":
            np.testing.assert_allclose(found[level], rloo_advantages(rewards, groups.levels), atol=1e-12)
            assert row["groups/shrinkage"] == 0 and row["groups/share/prompt"] == 1
        if level == "flat":
            variances = evidence.variances
            pooled = [variances[0], variances[1:4].sum(), variances[4]]
            expected = hierarchical_advantages(rewards, groups.levels[:, [0, 3]], pooled)
            np.testing.assert_allclose(found[level], expected, atol=1e-12)
            k = pooled[2] / (pooled[0] + pooled[1])
            assert row["groups/shrinkage"] == pytest.approx(k / (k + 1))
    assert not np.allclose(found["learned"], found["flat"])


def test_clusters_are_judged_only_once_the_variances_may_be_relied_on() -> None:
    for updates, judged in ((1, False), (12, True)):
        made, _ = after(updates, grouping={"kind": "clusters"})
        assert any(name.startswith("groups/error/") for name in made.report()) == judged


@pytest.mark.parametrize("kind", ["ebpo", "spo"])
def test_estimators_are_told_what_the_past_taught(kind: str) -> None:
    made, rng = comparison(advantage={"kind": kind}), np.random.default_rng(1)
    prior, tracker = RunningPrior(), Tracker()
    for _ in range(12):
        rollouts = familiar(rng)
        groups = made.group(rollouts)
        keys, rewards = [r.prompt.id for r in rollouts], np.array([r.reward for r in rollouts])
        known: dict[str, Any] = {"prior": prior.read(), "values": tracker.values(keys)}
        made.estimate(rollouts, groups)
        expected = estimate(kind, rewards, groups.levels, **known)
        np.testing.assert_array_equal([r.advantage for r in rollouts], expected)
        prior.add(rewards, groups.prompt)
        tracker.add(keys, rewards)
    assert known["prior"] is not None and len(set(known["values"])) > 2


@pytest.mark.parametrize("kind", ["task", "clusters", "first_match"])
def test_this_updates_rewards_never_decide_its_groups(kind: str) -> None:
    """Not though groups go by rewards, and not though the rollouts have theirs when they are grouped."""
    weights = {} if kind == "task" else {"weights": {"semantic": 0.5, "reward": 0.5}}
    grouping = {"kind": kind, **weights, **({} if kind == "task" else {"thresholds": [0.9]})}
    levels = []
    for flipped in (False, True):
        made, _ = after(20, [0.1, 0.9, 0.1, 0.9, 0.1, 0.9], grouping=grouping)
        rollouts = familiar(np.random.default_rng(4))
        for rollout in rollouts:
            rollout.reward = 1 - rollout.reward if flipped else rollout.reward
        levels.append(made.group(rollouts).levels)
    np.testing.assert_array_equal(*levels)


def test_what_makes_a_prompt_complex_is_known_of_the_past_alone() -> None:
    made = comparison(grouping={"kind": "clusters"})
    rollouts = familiar(np.random.default_rng(0))
    assert np.isnan(made._describe(rollouts).complexity[:, 1:]).all()  # completions' length, and difficulty
    made.estimate(rollouts, made.group(rollouts))
    described = made._describe(rollouts)
    np.testing.assert_allclose(described.complexity[:, 1], np.log(2))
    assert np.isfinite(described.reward).all()


def test_a_rollout_knows_its_path() -> None:
    made = comparison()
    rollouts = batch(np.random.default_rng(1))
    groups = made.group(rollouts)
    assert groups.names == ("domain", "task", "prompt")
    assert [r.path for r in rollouts] == [tuple(path) for path in groups.levels.tolist()]
    assert {r.group for r in rollouts} == set(range(16))


def test_nothing_kept_is_no_error() -> None:
    made = comparison()
    made.estimate([], made.group([]))
    assert "advantage/scale" not in made.report()


def test_a_restored_one_goes_on_as_the_first() -> None:
    made, other = comparison(), comparison()
    run(made, 5)
    other.load_state(made.state())
    rollouts, again = batch(np.random.default_rng(3)), batch(np.random.default_rng(3))
    made.estimate(rollouts, made.group(rollouts))
    other.estimate(again, other.group(again))
    assert [r.advantage for r in rollouts] == [r.advantage for r in again]
    assert made.report() == other.report()


def test_what_looks_at_prompts_needs_embeddings() -> None:
    assert not needs_embeddings(Recipe())
    assert needs_embeddings(Recipe.model_validate({"grouping": {"kind": "clusters"}}))
    assert needs_embeddings(Recipe.model_validate({"advantage": {"transfer": "kernel"}}))
    blind = {"grouping": {"kind": "clusters", "weights": {"semantic": 0, "complexity": 1}}}
    assert not needs_embeddings(Recipe.model_validate(blind))
    run(comparison(**blind), 2)


def test_transfer_is_a_form_of_the_hierarchical_estimator() -> None:
    assert estimator_of(Recipe.model_validate({"advantage": {"transfer": "threshold"}})) == "threshold"
    assert estimator_of(Recipe()) == "hierarchical"
    with pytest.raises(ValueError, match=r"transfer 'kernel' belongs to kind 'hierarchical', not to 'rloo'"):
        Recipe.model_validate({"advantage": {"kind": "rloo", "transfer": "kernel"}})
    with pytest.raises(ValueError, match=r"scale 'running' does not fit transfer 'threshold'"):
        Recipe.model_validate({"advantage": {"transfer": "threshold", "scale": "running"}})


def test_filtering_by_variance_fits_estimators_within_the_prompt_only() -> None:
    with pytest.raises(ValueError, match=r"rollout\.zero_variance 'drop' does not fit advantage\.kind 'hierarchical'"):
        Recipe.model_validate({"rollout": {"zero_variance": "drop"}})
