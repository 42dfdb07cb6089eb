"""The row of an update and the totals of a run, from rollouts made by hand."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from groupwise.stages.clock import STEPS, Clock
from groupwise.stages.collect import Collected
from groupwise.stages.record import TOTALS, Totals, metrics_row
from groupwise.types import Completion, Groups, Prompt, Rollout


def rollout(prompt: str, reward: float | str, tokens: int = 2, task: str = "sums", **rewards: float) -> Rollout:
    said = Completion(
        token_ids=(0,) * tokens, logprobs=(0.0,) * tokens, text="", finish_reason="length" if tokens > 8 else "stop",
        policy_version=0,
    )  # fmt: skip
    made = Rollout(prompt=Prompt(id=prompt, task=task, domain="arithmetic", text=prompt), completion=said)
    if isinstance(reward, str):
        made.dropped = reward
    else:
        made.reward, made.rewards, made.advantage = reward, rewards or {"accuracy": reward}, reward - 0.5
    return made


def row(collected: Collected, totals: Totals | None = None, learned: Any = None) -> dict[str, float]:
    clock, totals = Clock(), totals or Totals()
    clock.seconds["generate"] = 0.25
    clock.seconds["update"] = 0.5
    totals.add(collected, clock)
    ids = np.array([[ord(r.prompt.id[0])] for r in collected.kept], dtype=np.int64).reshape(-1, 1)
    groups = Groups(levels=ids, names=("prompt",))
    return metrics_row(collected, groups, learned or {"loss": 0.0, "policy/mismatch": 0.1}, totals, clock)


MIXED = Collected(
    kept=[rollout("a", 1.0, tokens=4), rollout("a", 0.0), rollout("b", 1.0, task="gcd"), rollout("b", 0.5, task="gcd")],
    discarded=[rollout("c", 0.0), rollout("c", 0.0)],
    dropped=[
        rollout("a", "judge: timeout after 5 s", tokens=9),
        rollout("b", "judge: raised KeyError"),
        rollout("d", "unscored"),
    ],
    rounds=2,
)


def test_a_dropped_rollout_is_in_no_mean() -> None:
    found = row(MIXED)
    assert found["reward/mean"] == pytest.approx(2.5 / 6)  # of six that were scored, not of nine
    assert found["reward/accuracy/mean"] == pytest.approx(2.5 / 6)
    assert (found["tasks/sums/reward"], found["tasks/gcd/reward"]) == (0.25, 0.75)
    assert found["accuracy"] == pytest.approx(2 / 6)
    assert found["advantage/mean"] == pytest.approx((0.5 - 0.5 + 0.5 + 0.0) / 4)


def test_every_rollout_is_counted() -> None:
    totals = Totals()
    found = row(MIXED, totals)
    counts = ("total", "dropped", "discarded", "rounds", "dropped/judge", "dropped/unscored")
    assert [found[f"rollouts/{name}"] for name in counts] == [9, 3, 2, 2, 2, 1]
    assert found["tokens/total"] == 4 + 9 + 7 * 2
    assert (found["completion/length_max"], found["completion/length_mean"]) == (9, 27 / 9)
    assert found["rollouts/truncated"] == pytest.approx(1 / 9)
    assert (found["groups/count"], found["groups/size_mean"]) == (2, 2)
    assert found["groups/zero_variance"] == pytest.approx(1 / 3)
    assert row(MIXED, totals)["rollouts/total"] == 18
    assert totals.values == {
        "rollouts": 18, "tokens": 54, "dropped": 6, "discarded": 4,
        "train_seconds": 1.5, "generate_seconds": 0.5, "update_seconds": 1.0,
    }  # fmt: skip


def test_completions_without_siblings_say_nothing_of_variance() -> None:
    assert row(Collected(kept=[rollout("a", 1.0), rollout("b", 1.0), rollout("b", 0.0)]))["groups/zero_variance"] == 0
    assert np.isnan(row(Collected(kept=[rollout("a", 1.0), rollout("b", 0.0)]))["groups/zero_variance"])


def test_seconds() -> None:
    found = row(MIXED)
    assert found["time/total"] == 0.75 == sum(found[f"time/{step}"] for step in STEPS)
    assert found["tokens/per_second"] == 27 / 0.75


def test_an_update_without_a_group_to_learn_from() -> None:
    learned = {"loss": 0.0, "policy/grad_norm": 0.0}
    found = row(Collected(discarded=[rollout("c", 1.0), rollout("c", 1.0)], rounds=1), learned=learned)
    assert (found["groups/count"], found["groups/size_mean"], found["advantage/std"]) == (0, 0, 0)
    assert found["reward/mean"] == 1
    assert math.isnan(found["policy/mismatch"])  # null in metrics.jsonl: it was not measured


def test_accuracy_is_the_reward_of_that_name_or_else_the_whole_reward() -> None:
    named = Collected(kept=[rollout("a", 0.4, accuracy=1.0, style=-0.6), rollout("a", 1.2, accuracy=0.0, style=1.2)])
    assert row(named)["accuracy"] == 0.5
    other = Collected(kept=[rollout("a", 1.0, style=1.0), rollout("a", 0.2, style=0.2)])
    assert row(other)["accuracy"] == 0.5


def test_a_reward_that_applies_to_some_has_the_mean_of_those() -> None:
    some = Collected(kept=[rollout("a", 1.0, accuracy=0.0, safety=1.0), rollout("a", 0.0, accuracy=0.0)])
    assert row(some)["reward/safety/mean"] == 1.0


def test_totals_go_through_a_checkpoint() -> None:
    first, second = Totals(), Totals()
    row(MIXED, first)
    second.load_state(first.state())
    assert second.values == first.values
    row(MIXED, first)
    assert second.values != first.values
    assert tuple(second.values) == TOTALS
