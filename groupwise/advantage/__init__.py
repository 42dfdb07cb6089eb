"""Advantage estimators as pure functions of arrays: one file an estimator, chosen by name with `estimate`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from numpy.typing import ArrayLike

from groupwise.advantage.ebpo import ebpo_advantages
from groupwise.advantage.global_ import global_advantages
from groupwise.advantage.group_mean import dynamic_groups, group_mean_advantages
from groupwise.advantage.grpo import grpo_advantages
from groupwise.advantage.hierarchical import hierarchical_advantages
from groupwise.advantage.informed import from_tree, from_tree_and_kernel
from groupwise.advantage.jspo import jspo_advantages
from groupwise.advantage.kriging import similarity
from groupwise.advantage.process import process_advantages
from groupwise.advantage.rloo import rloo_advantages
from groupwise.advantage.scale import Scale, scaled
from groupwise.advantage.spo import spo_advantages
from groupwise.advantage.threshold import threshold_advantages
from groupwise.advantage.transfer import kernel_advantages
from groupwise.types import Floats

__all__ = [
    "ESTIMATORS",
    "Estimator",
    "Scale",
    "ebpo_advantages",
    "estimate",
    "global_advantages",
    "group_mean_advantages",
    "grpo_advantages",
    "hierarchical_advantages",
    "jspo_advantages",
    "kernel_advantages",
    "process_advantages",
    "rloo_advantages",
    "scaled",
    "scaled_as",
    "similarity",
    "spo_advantages",
    "threshold_advantages",
]


@dataclass(frozen=True, kw_only=True)
class Estimator:
    """`advantages(rewards [N], levels [N, L], **known) -> [N]`, and how it is scaled unless told otherwise."""

    advantages: Callable[..., Floats]
    scale: Scale
    scales: tuple[Scale, ...] = ("none", "group", "batch")  # those that make sense
    needs: tuple[str, ...] = ()  # what it must know beside the batch: past batches, the prompts' features
    groups: Callable[[ArrayLike], ArrayLike] = lambda levels: levels  # levels whose last column scale "group" is of


# "group" is only for advantages that are 0 where the group's standard deviation is
WHOLE: tuple[Scale, ...] = ("none", "batch")
LEARNED: tuple[Scale, ...] = ("running", "none", "batch")

ESTIMATORS: dict[str, Estimator] = {
    "grpo": Estimator(advantages=grpo_advantages, scale="group"),
    "rloo": Estimator(advantages=rloo_advantages, scale="none"),
    "global": Estimator(advantages=global_advantages, scale="none", scales=WHOLE),
    "jspo": Estimator(advantages=jspo_advantages, scale="none", scales=WHOLE),
    "ebpo": Estimator(advantages=ebpo_advantages, scale="none", scales=WHOLE, needs=("prior",)),
    # its own division by the standard deviation is part of it
    "spo": Estimator(advantages=spo_advantages, scale="none", scales=("none",), needs=("values",)),
    "group_mean": Estimator(advantages=group_mean_advantages, scale="group", groups=dynamic_groups),
    "threshold": Estimator(advantages=threshold_advantages, scale="none", scales=WHOLE, needs=("features",)),
    "hierarchical": Estimator(advantages=from_tree, scale="running", scales=LEARNED, needs=("evidence",)),
    "kernel": Estimator(
        advantages=from_tree_and_kernel,
        scale="running",
        scales=LEARNED,
        needs=("evidence", "kernel_variance", "features"),
    ),
}


def estimate(kind: str, rewards: ArrayLike, levels: ArrayLike, scale: str | None = None, **known: Any) -> Floats:
    """The advantages [N] of rewards [N], float64; `scale` None is the estimator's own.

    levels [N, L]: integer ids, coarse to fine; the last column is the prompt, and groups may have any size.
    known: what past batches and the prompts tell; each estimator takes what it needs of it.

        evidence         `Evidence` of types.py                                             hierarchical, kernel
        features         [N, F] each rollout's prompt embedded; kernel: [N + M, F], see there         threshold, kernel
        kernel_variance  s_e, see grouping/transfer_fit.py                                            kernel
        prior            mean, between, within, or None; see grouping/prior.py                        ebpo
        values           [N] of the rollouts' prompts, see grouping/tracker.py                        spo

    ValueError when `kind` or `scale` is not allowed, something needed is not given, N is 0, a reward is not finite, or
    the shapes differ.
    """
    if kind not in ESTIMATORS:
        raise ValueError(f"unknown advantage {kind!r}; allowed: {', '.join(ESTIMATORS)}")
    estimator = ESTIMATORS[kind]
    # the prior is None before the first batch, which is knowledge too
    if missing := [name for name in estimator.needs if name not in known or (known[name] is None and name != "prior")]:
        raise ValueError(f"advantage {kind!r} needs {', '.join(missing)}")
    advantages = estimator.advantages(rewards, levels, **{name: known[name] for name in estimator.needs})
    return scaled_as(kind, advantages, rewards, levels, scale, **known)


def scaled_as(
    kind: str, advantages: Floats, rewards: ArrayLike, levels: ArrayLike, scale: str | None = None, **known: Any
) -> Floats:
    """What `estimate` does last: the unscaled advantages [N] of this kind, scaled. Arguments and errors as there."""
    estimator = ESTIMATORS[kind]
    chosen = estimator.scale if scale is None else scale
    if chosen not in estimator.scales:
        raise ValueError(f"scale {chosen!r} does not fit advantage {kind!r}; allowed: {', '.join(estimator.scales)}")
    running = known["evidence"].scale if chosen == "running" else 1.0
    return scaled(advantages, rewards, estimator.groups(levels), chosen, running)
