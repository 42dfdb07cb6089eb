"""Which baseline predicts rewards it has not seen: mean squared leave-one-out residuals of one batch.

Groups and variances are those from before the batch, so the comparison favours none, and costs no rollout.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike

from groupwise.advantage.global_ import global_advantages
from groupwise.advantage.hierarchical import hierarchical_advantages
from groupwise.advantage.inputs import checked, prompts
from groupwise.advantage.rloo import rloo_advantages
from groupwise.types import Evidence, Floats, Ints


def held_out_errors(
    rewards: ArrayLike,
    levels: ArrayLike,
    evidence: Evidence,
    rng: np.random.Generator,
    made: Mapping[str, Floats] | None = None,
    *,
    rivals: bool = True,
) -> dict[str, float]:
    """rewards [N], levels [N, L] -> squared units of the reward; less is better. `rng` draws the random groups.

    `made`: unscaled advantages [N] that are known already, by name. `rivals`: whether to compare with the trees of
    other groups too, each of which passes over the whole history.

    hierarchical   the tree as it is, with its history; as `global` until the evidence is ready, as in training
    random         the same, but each prompt with the path of another: what the groups' sizes alone achieve
    flat           prompts without groups above them, which differ by the sum of all between-variances
    global         the mean of all other rewards of the batch
    prompt         the mean of the other rewards of the prompt; as `global` where there is no other

    ValueError as in `hierarchical_advantages`.
    """
    values, ids = checked(rewards, levels)
    overall = global_advantages(values, ids)
    alone = (group := prompts(ids)).size[group.index] == 1
    residuals = {
        "hierarchical": overall,
        **({"random": overall, "flat": overall} if rivals else {}),
        "global": overall,
        "prompt": np.where(alone, overall, rloo_advantages(values, ids)),
    }
    if evidence.ready:
        variances, history = np.asarray(evidence.variances, dtype=np.float64), evidence.history
        known = np.concatenate([ids, history[2]]) if history else ids
        pooled = np.array([variances[:-1].sum(), variances[-1]])
        ways = {"random": (_reassigned(known, rng), variances), "flat": (known[:, -1:], pooled)} if rivals else {}
        residuals |= made or {}
        if "hierarchical" not in (made or {}):
            ways["hierarchical"] = known, variances
        for name, (paths, components) in ways.items():
            past = (history[0], history[1], paths[len(values) :]) if history else None
            residuals[name] = hierarchical_advantages(values, paths[: len(values)], components, history=past)
    return {name: _mean_square(residual) for name, residual in residuals.items()}


def _reassigned(levels: Ints, rng: np.random.Generator) -> Ints:
    """levels [N, L] with the prompts dealt anew to the groups, each of which keeps its number of prompts."""
    _, first, prompt = np.unique(levels[:, -1], return_index=True, return_inverse=True)
    dealt = levels[rng.permutation(first), :-1]
    return np.concatenate([dealt[prompt], levels[:, -1:]], axis=1)


def _mean_square(residuals: Floats) -> float:
    return float(np.square(residuals).mean())
