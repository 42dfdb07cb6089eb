"""Groups must earn their place: learned clusters, the flat level, or each prompt by itself, by held-out error.

Every update four baselines are scored on the same rollouts under groups and variances fixed before it: the learned
clusters, random ones of the same sizes, the flat level (no clusters), and the prompt's own mean. Learned clusters that
do not beat random ones give way to the flat level; when that does not beat the prompt mean, to the prompt mean.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from groupwise.grouping.running import RunningMean
from groupwise.types import Floats

Level = Literal["learned", "flat", "prompt"]

DECAY = 0.95
LEAST_UPDATES = 8  # before the clusters are judged
SIBLINGS = 0.9  # share of rollouts with siblings below which the prompt's mean is no baseline at all
# Where a comparison must stand, in standard errors, to change what is in use; between the two nothing changes.
ENTER, LEAVE = -2.0, -1.0
PAIRS = (("learned", "random"), ("learned", "flat"), ("learned", "prompt"), ("flat", "prompt"))


class Fallback:
    """What is in use (`level`) and why (`reason`). The flat level is, until the clusters have shown their worth."""

    def __init__(self) -> None:
        self.level: Level = "flat"
        self.reason = f"clusters are judged after {LEAST_UPDATES} updates"
        self._difference = {f"{a}-{b}": RunningMean(DECAY) for a, b in PAIRS}
        self._error = {name: RunningMean(DECAY) for name in ("learned", "random", "flat", "prompt")}

    def add(self, squares: Mapping[str, Floats], siblings: NDArray[np.bool_]) -> None:
        """Squared residuals [N] of this update by baseline; siblings [N]: which rollouts share their prompt."""
        comparable = bool(siblings.mean() >= SIBLINGS)
        for name, error in self._error.items():
            if name != "prompt" or comparable:
                error.add(float(squares[name][siblings if name == "prompt" else slice(None)].mean()))
        for a, b in PAIRS:
            rows = siblings if b == "prompt" else np.ones(len(siblings), bool)
            if b != "prompt" or comparable:
                self._difference[f"{a}-{b}"].add(float((squares[a][rows] - squares[b][rows]).mean()))
        self.level, self.reason = self._decide()

    def errors(self) -> dict[str, float]:
        """Running mean squared residual by baseline; those never scored are left out."""
        return {name: error.mean for name, error in self._error.items() if error.count}

    def _decide(self) -> tuple[Level, str]:
        random, flat = self._difference["learned-random"], self._difference["learned-flat"]
        if random.count < LEAST_UPDATES:
            return self.level, self.reason
        learned = self.level == "learned"
        if random.z > (LEAVE if learned else ENTER):
            level: Level = "flat"
            reason = f"clusters do not beat random ones of the same sizes ({random.z:+.1f} standard errors)"
        elif flat.z > (-LEAVE if learned else 0.0):
            level = "flat"
            reason = f"clusters beat random ones, but not the flat level ({flat.z:+.1f} standard errors)"
        else:
            level = "learned"
            reason = f"clusters beat random ones of the same sizes ({random.z:+.1f} standard errors)"
        prompt = self._difference[f"{level}-prompt"]
        if prompt.count >= LEAST_UPDATES and prompt.z > (0.0 if self.level == "prompt" else -ENTER):
            return "prompt", f"{level} level does not beat the prompt's own mean ({prompt.z:+.1f} standard errors)"
        return level, reason

    def state(self) -> dict[str, Any]:
        return {
            "level": self.level,
            "reason": self.reason,
            "difference": {name: mean.state() for name, mean in self._difference.items()},
            "error": {name: mean.state() for name, mean in self._error.items()},
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        self.level, self.reason = state["level"], state["reason"]
        for name, saved in state["difference"].items():
            self._difference[name].load_state(saved)
        for name, saved in state["error"].items():
            self._error[name].load_state(saved)


def restrict(variances: Floats, level: Level, learned: slice) -> Floats:
    """`variances` [L + 1] under which the full tree's baseline is that of `level`; `learned`: the clusters' columns.

    flat: what lay between clusters is now between prompts, so no variance is lost. prompt: prompts share nothing.
    """
    out = np.array(variances, np.float64)
    if level == "flat":
        out[-2] += out[learned].sum()
        out[learned] = 0.0
    elif level == "prompt":
        out[-2] = np.inf
    return out
