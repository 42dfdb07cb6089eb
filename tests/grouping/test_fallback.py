from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from groupwise.grouping.fallback import LEAST_UPDATES, Fallback, restrict

from .clusters_of import assert_same
from .simulated import baseline, run

ERRORS = {"learned": 1.0, "random": 1.0, "flat": 1.0, "prompt": 1.5}
BOTH = np.ones(40, bool)


def fed(fallback: Fallback, updates: int, seed: int = 0, siblings: np.ndarray = BOTH, **errors: float) -> list[str]:
    """The level after each of `updates`, whose squared errors are `errors` give or take noise."""
    rng, levels = np.random.default_rng(seed), []
    for _ in range(updates):
        means = {name: error + 0.05 * rng.normal() for name, error in {**ERRORS, **errors}.items()}
        fallback.add({name: np.full(len(siblings), mean) for name, mean in means.items()}, siblings)
        levels.append(fallback.level)
    return levels


def test_clusters_are_used_once_they_have_shown_their_worth() -> None:
    fallback = Fallback()
    assert (fallback.level, fallback.reason) == ("flat", "clusters are judged after 8 updates")
    levels = fed(fallback, 20, learned=0.8)
    assert set(levels[: LEAST_UPDATES - 1]) == {"flat"}
    assert set(levels[LEAST_UPDATES:]) == {"learned"}
    assert fallback.reason.startswith("clusters beat random ones of the same sizes (-")


def test_clusters_no_better_than_random_give_way_to_the_flat_level() -> None:
    fallback = Fallback()
    fed(fallback, 20, learned=0.8)
    assert fed(fallback, 80)[-1] == "flat"
    assert "do not beat random ones" in fallback.reason


def test_clusters_worse_than_the_flat_level_give_way_even_if_they_beat_random_ones() -> None:
    fallback = Fallback()
    assert set(fed(fallback, 40, random=1.5, learned=1.1)) == {"flat"}
    assert "but not the flat level" in fallback.reason


def test_the_prompt_mean_takes_over_where_nothing_beats_it() -> None:
    fallback = Fallback()
    assert fed(fallback, 30, prompt=0.8)[-1] == "prompt"
    assert "flat level does not beat the prompt's own mean (+" in fallback.reason
    assert fed(fallback, 80)[-1] == "flat"


def test_without_siblings_the_prompt_mean_is_no_baseline() -> None:
    few = np.arange(40) < 8
    fallback = Fallback()
    assert "prompt" not in fed(fallback, 30, siblings=few, prompt=0.0)
    assert set(fallback.errors()) == {"learned", "random", "flat"}


def test_noise_does_not_flip_it() -> None:
    flips = 0
    for seed in range(8):
        levels = fed(Fallback(), 300, seed)
        flips += sum(a != b for a, b in pairwise(levels))
    assert flips < 8 * 300 * 0.02
    for seed in range(8):
        levels = fed(Fallback(), 300, seed, learned=0.9)
        assert set(levels[20:]) == {"learned"}


def test_restricted_variances_are_those_of_the_smaller_tree() -> None:
    rng = np.random.default_rng(0)
    levels = np.arange(40)[:, None] // [40, 8, 4, 2]
    rewards, variances, learned = rng.normal(size=40), np.array([0.1, 0.2, 0.3, 0.4, 1.0]), slice(1, 3)
    assert restrict(variances, "learned", learned).tolist() == variances.tolist()
    flat = restrict(variances, "flat", learned)
    assert flat.tolist() == pytest.approx([0.1, 0, 0, 0.9, 1.0])
    small = baseline(rewards, levels[:, [0, 3]], np.array([0.1, 0.9, 1.0]))
    np.testing.assert_allclose(baseline(rewards, levels, flat), small, atol=1e-12)
    pairs = rewards.reshape(-1, 2)
    alone = baseline(rewards, levels, restrict(variances, "prompt", learned))
    np.testing.assert_allclose(alone, (pairs - pairs[:, ::-1]).ravel(), atol=1e-12)


@pytest.mark.parametrize("embed", ["random", "giant", "singletons"])
def test_bad_groups_end_no_worse_than_the_plain_baselines(embed: str) -> None:
    """Held-out squared error of what is in use, against `rloo`, `global` and the flat level, after a start of 20."""
    used, plain = [], {"rloo": [], "global": [], "flat": []}  # type: ignore[var-annotated]
    for update in run(np.linspace(0.05, 0.95, 10).tolist(), 60, embed=embed, spread=0.05):
        if update.variances is None:
            continue
        learned, levels = slice(1, 3), update.groups.levels
        trees = {
            "rloo": restrict(update.variances, "prompt", learned),
            "global": np.array([0, 0, 0, 0, 1.0]),
            "flat": restrict(update.variances, "flat", learned),
        }
        used.append(np.mean(baseline(update.rewards, levels, update.grouping.restrict(update.variances)) ** 2))
        for name, variances in trees.items():
            plain[name].append(np.mean(baseline(update.rewards, levels, variances) ** 2))
    for name, errors in plain.items():
        difference = np.array(used[20:]) - errors[20:]
        noise = difference.std(ddof=1) / np.sqrt(len(difference))
        assert difference.mean() <= 2 * noise + 1e-4, (name, difference.mean(), noise)


def test_good_groups_are_found_and_pay() -> None:
    *_, last = run([0.05, 0.3, 0.6, 0.95], 25)
    report = last.grouping.report()
    assert last.grouping.level == "learned"
    assert report["groups/explained"] > 0.15
    assert report["groups/icc"] > 0.3
    assert report["groups/error/learned"] < report["groups/error/flat"] < report["groups/error/prompt"]


def test_resume_is_exact() -> None:
    live, copy = Fallback(), Fallback()
    fed(live, 15, learned=0.9)
    copy.load_state(live.state())
    for fallback in (live, copy):
        fed(fallback, 15, seed=3)
    assert_same(live.state(), copy.state())
