"""What is carried from batch to batch."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from groupwise.advantage.held_out import held_out_errors
from groupwise.advantage.informed import from_tree
from groupwise.grouping.memory import Memory
from groupwise.types import Floats, Ints

from .worlds import World, unequal_sizes

TRUE = (0.04, 0.03, 0.05, 0.16)
Update = tuple[list[str], Ints, Floats, Floats]


def updates(count: int, seed: int = 0) -> list[Update]:
    """keys, levels, rewards and advantages, those of RLOO's kind."""
    world, result = World(seed, TRUE), []
    for _ in range(count):
        rewards, levels = world.batch(unequal_sizes(world.rng))
        result.append(([str(prompt) for prompt in levels[:, -1]], levels, rewards, rewards - rewards.mean()))
    return result


def filled(batches: list[Update]) -> Memory:
    memory = Memory(3)
    for batch in batches:
        memory.add(*batch)
    return memory


def test_at_first_nothing_is_known() -> None:
    evidence = Memory(2).evidence(["a"], [[0, 0]])
    assert (evidence.ready, evidence.scale, evidence.history) == (False, 1.0, None)
    assert evidence.variances.tolist() == [0, 0, 0]


def test_later_it_knows_variances_history_and_scale() -> None:
    batches = updates(60)
    evidence = filled(batches[:-1]).evidence(*batches[-1][:2])
    assert evidence.ready
    assert evidence.variances[2:] == pytest.approx(TRUE[2:], rel=0.5)
    assert evidence.scale == pytest.approx(sum(TRUE) ** 0.5, rel=0.3)
    assert evidence.history is not None
    sums, counts, levels = evidence.history
    assert len(sums) == len({key for batch in batches[:-1] for key in batch[0]})
    assert levels.shape == (len(sums), 3)
    rewards = np.concatenate([batch[2] for batch in batches[:-1]])
    if counts.sum() == len(rewards):  # nothing forgotten
        assert sums.sum() == pytest.approx(rewards.sum())


def test_evidence_is_of_the_past_alone_and_asking_changes_nothing() -> None:
    batches = updates(4)
    memory = filled(batches[:3])
    before = memory.state()
    first, second = (memory.evidence(*batches[3][:2]) for _ in range(2))
    assert memory.state() == before
    assert (first.variances == second.variances).all()
    assert first.history is not None
    given = [array.copy() for array in first.history]
    memory.add(*batches[3])  # whoever holds older evidence is not disturbed
    assert all((one == other).all() for one, other in zip(first.history, given, strict=True))
    assert (first.variances == second.variances).all()


def test_the_scale_is_1_until_ready_and_passes_over_batches_without_advantages() -> None:
    memory, keys, levels = Memory(1), [str(i) for i in range(6)], np.arange(6)[:, None]
    memory.add(keys, levels, np.arange(6.0), np.arange(6.0))
    assert memory.evidence(keys, levels).scale == 1.0
    pairs = [str(i // 2) for i in range(80)], np.arange(80)[:, None] // 2
    memory.add(*pairs, np.arange(80) % 2, np.arange(80) % 2 - 0.5)
    expected = ((0.95 * np.square(np.arange(6)).mean() + 0.5**2) / 1.95) ** 0.5
    for _ in range(3):
        assert memory.evidence(keys, levels).scale == pytest.approx(expected)
        memory.add(*pairs, np.zeros(80), np.zeros(80))
        memory.add([], np.zeros((0, 1), dtype=int), [], [])


@pytest.mark.parametrize("siblings", [1, 2])
@pytest.mark.parametrize("reward", [0.1, 0.3, 0.7, -0.1])
def test_rewards_that_are_all_equal_teach_nothing_however_their_sums_round(reward: float, siblings: int) -> None:
    memory, rewards = Memory(2), np.full(64, reward)
    for update in range(30):
        prompts = np.arange(64) // siblings + 7 * update  # some come back
        keys, levels = [str(prompt) for prompt in prompts], np.stack([prompts // 100, prompts], axis=1)
        advantages = from_tree(rewards, levels, memory.evidence(keys, levels))
        assert not advantages.any()
        memory.add(keys, levels, rewards, advantages)
    rewards[5] += 1
    evidence = memory.evidence(keys, levels)
    assert np.abs(from_tree(rewards, levels, evidence) / evidence.scale).max() == pytest.approx(1, rel=0.1)


def test_where_successes_are_rare_the_scale_is_that_of_the_updates_that_teach() -> None:
    rng, memory, scales, share = np.random.default_rng(0), Memory(1), [], 0.005
    for update in range(600):
        prompts = np.arange(32) + 32 * update
        keys, levels = [str(prompt) for prompt in np.repeat(prompts, 2)], np.repeat(prompts, 2)[:, None]
        rewards = (rng.random(64) < share).astype(float)
        evidence = memory.evidence(keys, levels)
        scales.append(evidence.scale)
        memory.add(keys, levels, rewards, from_tree(rewards, levels, evidence))
    assert np.median(scales[100:]) == pytest.approx((share * (1 - share)) ** 0.5, rel=0.25)


def test_moved_prompts_and_memory_without_history() -> None:
    batches = updates(2)
    memory = filled(batches[:1])
    memory.move({batches[0][0][0]: [77, 88, 99]})
    history = memory.evidence(*batches[1][:2]).history
    assert history is not None
    assert [77, 88] in history[2][:, :2].tolist()
    none = Memory(3, max_prompts=0)
    none.add(*batches[0])
    assert none.evidence(*batches[1][:2]).history is None


@pytest.mark.parametrize("walk", [0.0, 0.3])
def test_the_past_of_prompts_makes_better_baselines_even_where_they_change(walk: float) -> None:
    # 300 prompts, 90 rollouts an update, of which some share their prompt; the log-odds walk
    rng, memory, mean = np.random.default_rng(0), Memory(2), np.zeros(3)
    cluster = np.arange(300) % 12
    log_odds = rng.normal(0, 0.7, 12)[cluster] + rng.normal(0, 1, 300)
    for update in range(100):
        log_odds = np.clip(log_odds + rng.normal(0, walk, 300), -4, 4)
        prompt = rng.choice(300, 78, replace=False)
        prompt = np.concatenate([prompt, prompt[:12]])
        rewards = (rng.random(90) < 1 / (1 + np.exp(-log_odds[prompt]))).astype(float)
        keys, levels = [str(j) for j in prompt], np.stack([cluster[prompt], prompt], axis=1)
        evidence = memory.evidence(keys, levels)
        found = held_out_errors(rewards, levels, evidence, rng)
        without = held_out_errors(rewards, levels, replace(evidence, history=None), rng)
        if update >= 20:
            mean += np.array([found["hierarchical"], without["hierarchical"], found["global"]]) / 80
        memory.add(keys, levels, rewards, rewards - rewards.mean())
    assert mean[0] < 0.9 * mean[1] < mean[2]


def test_report() -> None:
    batches = updates(40)
    memory = filled(batches)
    row = memory.report(("domain", "cluster", "prompt"))
    assert row["history/prompts"] == len({key for batch in batches for key in batch[0]})
    assert row["variance/within"] == memory.evidence(*batches[0][:2]).variances[-1]
    assert {*row} == {"history/half_life", "history/prompts"} | {
        f"variance/{name}" for name in ("domain", "cluster", "prompt", "within")
    }


def test_resume_is_exact_through_plain_values() -> None:
    batches = updates(6)
    whole, first, second = filled(batches[:-1]), filled(batches[:3]), filled(updates(1, seed=9))
    state = first.state()
    second.load_state(state)
    for batch in batches[3:-1]:
        second.add(*batch)
    assert second.state() == whole.state()
    assert plain(state)


def plain(value: object) -> bool:
    """Whether a checkpoint can be read without running code."""
    if type(value) is dict:
        return all(type(key) is str and plain(item) for key, item in value.items())
    if type(value) is list:
        return all(plain(item) for item in value)
    return type(value) in (str, int, float)
