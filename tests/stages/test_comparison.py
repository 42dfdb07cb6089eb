"""Grouping and estimating inside a run: the rewards of an update never enter its own baselines."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from groupwise.advantage import global_advantages
from groupwise.config import Recipe
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
    assert row["variance/domain"] > 0.05
    assert row["variance/task"] == 0  # each domain has one
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
