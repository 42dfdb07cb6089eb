"""What each prompt's past rewards say, forgotten at the pace at which they cease to predict.

A prompt's past is the sum and the number of its rewards, both halved every h updates. Several h run side by side; in
force is the one that so far predicted the next batch best (least discounted squared error one step ahead):

    predicted mean of prompt j = (S_j + k m) / (n_j + k)        m: mean of all past rewards, discounted by the same h
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from groupwise.types import Floats, Ints

HALF_LIVES = (float("inf"), 128.0, 64.0, 32.0, 16.0, 8.0, 4.0, 2.0)  # updates; of equals the first is taken
MEMORY = 0.99  # weight of the past in the running error of a half-life
LEAST = 1e-3  # rollouts; a past that has faded below this is not handed out


class History:
    """Past rewards by prompt, for trees of `levels` = L columns; beyond `max_prompts` the longest unseen is dropped."""

    def __init__(self, levels: int, max_prompts: int = 2**14, half_lives: Sequence[float] = HALF_LIVES) -> None:
        self._half_lives = np.array(half_lives)
        self._now = 0  # updates taken in
        self._row: dict[str, int] = {}
        self._keys: list[str] = []  # by row, as the arrays below
        self._sums = np.zeros((max_prompts, len(half_lives)))  # discounted up to `_seen`
        self._counts = np.zeros_like(self._sums)
        self._seen = np.zeros(max_prompts, dtype=np.int64)  # update that last added to this row
        self._paths = np.zeros((max_prompts, levels), dtype=np.int64)
        self._total = np.zeros((2, len(half_lives)))  # sum and number over all prompts, dropped ones too
        self._errors = np.zeros(len(half_lives))

    def __len__(self) -> int:
        return len(self._keys)

    @property
    def half_life(self) -> float:
        """Updates after which a reward counts half; inf: nothing is forgotten."""
        return float(self._half_lives[np.argmin(self._errors)])

    def entries(self, keys: Sequence[str], levels: ArrayLike) -> tuple[Floats, Floats, Ints]:
        """Sums [M], counts [M] and levels [M, L] of the known prompts, for a batch with keys [N] and levels [N, L].

        A prompt of the batch has its path there; any other has the groups it was last in and a prompt id of its own,
        so prompt ids need only be unique in the batch. Ids of groups must mean the same in every batch, see `move`.
        """
        ids = np.asarray(levels, dtype=np.int64)
        paths = self._paths[: len(self)].copy()
        paths[:, -1] = np.arange(len(self)) + int(ids[:, -1].max(initial=-1)) + 1
        names, first, _ = _prompts(keys)
        rows = self._find(names)
        paths[rows[rows >= 0]] = ids[first[rows >= 0]]
        best = int(np.argmin(self._errors))
        fade = np.exp2((self._seen[: len(self)] - self._now) / self._half_lives[best])
        counts = self._counts[: len(self), best] * fade
        some = counts > LEAST
        found = self._sums[: len(self), best] * fade, counts, paths
        return found if some.all() else (found[0][some], found[1][some], found[2][some])

    def past(self, keys: Sequence[str]) -> tuple[Floats, Floats]:
        """Sums [P] and counts [P] of past rewards of the prompts `keys` [P]; 0 for those not known."""
        rows = self._find(keys)
        known, best = rows >= 0, int(np.argmin(self._errors))
        left = self._fade(rows[known])[:, best]
        sums, counts = np.zeros(len(rows)), np.zeros(len(rows))
        sums[known], counts[known] = self._sums[rows[known], best] * left, self._counts[rows[known], best] * left
        return sums, counts

    def move(self, paths: Mapping[str, Sequence[int]]) -> None:
        """Tell the new paths [L] of prompts whose groups changed; prompts that are not known are passed over."""
        known = [key for key in paths if key in self._row]
        if known:
            self._paths[[self._row[key] for key in known]] = [paths[key] for key in known]

    def add(self, keys: Sequence[str], levels: ArrayLike, rewards: ArrayLike, strength: float = 1.0) -> None:
        """Take in an update's keys [N], levels [N, L] and rewards [N]; N may be 0.

        strength: k of the formula, how many rollouts of its own a prompt needs to weigh as much as the mean of all;
        s_w / (sum of the between-variances).
        """
        values, ids = np.asarray(rewards, dtype=np.float64), np.asarray(levels, dtype=np.int64)
        if not np.isfinite(values).all():
            raise ValueError("rewards must be finite")
        names, first, prompt = _prompts(keys)
        rows = self._find(names)
        if len(values) and self._now and len(self._seen):
            self._errors = MEMORY * self._errors + self._mistakes(rows, prompt, values, strength)
        self._now += 1
        self._total = self._total * 0.5 ** (1 / self._half_lives) + [[values.sum()], [len(values)]]
        self._make_room(names, rows)
        kept = rows >= 0
        rows, fade = rows[kept], self._fade(rows[kept])
        added = np.bincount(prompt, weights=values, minlength=len(names))[kept], np.bincount(prompt)[kept]
        self._sums[rows] = self._sums[rows] * fade + added[0][:, None]
        self._counts[rows] = self._counts[rows] * fade + added[1][:, None]
        self._seen[rows], self._paths[rows] = self._now, ids[first[kept]]

    def state(self) -> dict[str, Any]:
        size = len(self)
        arrays = {"sums": self._sums, "counts": self._counts, "seen": self._seen, "paths": self._paths}
        return {
            "now": self._now,
            "keys": list(self._keys),
            **{name: array[:size].tolist() for name, array in arrays.items()},
            "total": self._total.tolist(),
            "errors": self._errors.tolist(),
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        self._now, self._keys = int(state["now"]), list(state["keys"])
        self._row = {key: row for row, key in enumerate(self._keys)}
        arrays = {"sums": self._sums, "counts": self._counts, "seen": self._seen, "paths": self._paths}
        for name, array in arrays.items():
            array[:] = 0
            if self._keys:
                array[: len(self)] = state[name]
        self._total, self._errors = np.array(state["total"]), np.array(state["errors"])

    def _find(self, names: Sequence[str]) -> Ints:
        return np.array([self._row.get(name, -1) for name in names], dtype=np.int64)

    def _fade(self, rows: Ints) -> Floats:
        """[rows, half-lives] what is left of the sums and counts of `rows`."""
        return np.asarray(0.5 ** ((self._now - self._seen[rows])[:, None] / self._half_lives))

    def _mistakes(self, rows: Ints, prompt: Ints, values: Floats, strength: float) -> Floats:
        """Mean squared error of each half-life's prediction of values [N]."""
        left = self._fade(rows) * (rows >= 0)[:, None]
        mean = self._total[0] / np.maximum(self._total[1], LEAST)
        predicted = (self._sums[rows] * left + strength * mean) / (self._counts[rows] * left + strength)
        return np.asarray(np.square(values[:, None] - predicted[prompt]).mean(0))

    def _make_room(self, names: Sequence[str], rows: Ints) -> None:
        """Give every name a row, in place; the longest unseen make room, but none of this update."""
        new = np.flatnonzero(rows < 0)
        free = np.arange(len(self), min(len(self) + len(new), len(self._seen)))
        here = np.zeros(len(self), dtype=bool)
        here[rows[rows >= 0]] = True
        old = np.flatnonzero(~here)
        dropped = old[np.argsort(self._seen[old], kind="stable")[: len(new) - len(free)]]
        for row in dropped:
            del self._row[self._keys[row]]
        self._keys.extend([""] * len(free))
        taken = np.concatenate([dropped, free])
        self._sums[taken] = self._counts[taken] = 0
        rows[new[: len(taken)]] = taken
        for place, row in zip(new.tolist(), taken.tolist(), strict=False):
            self._row[names[place]], self._keys[row] = row, names[place]


def _prompts(keys: Sequence[str]) -> tuple[list[str], Ints, Ints]:
    """The P different keys, the place of the first of each [P], and for every rollout its prompt's number [N]."""
    number: dict[str, int] = {}
    prompt = np.array([number.setdefault(key, len(number)) for key in keys], dtype=np.int64)
    return list(number), np.unique(prompt, return_index=True)[1], prompt
