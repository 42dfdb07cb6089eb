"""The groups of a run: `assign` before an update's rewards are known, `learn` after."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from groupwise.config.grouping import GroupingConfig
from groupwise.grouping.boundaries import Boundaries
from groupwise.grouping.fallback import Fallback, Level, restrict
from groupwise.grouping.features import Features, Standardiser, Vectors, combine
from groupwise.grouping.hierarchy import Hierarchy
from groupwise.grouping.limits import most_clusters, most_prompts
from groupwise.grouping.quality import icc1, silhouette, stability
from groupwise.grouping.running import RunningMean
from groupwise.types import Floats, Groups, Ints, Stateful

# A baseline that is told the tree: rewards [N], levels [N, L], variances [L + 1] -> advantages [N].
Baseline = Callable[[Floats, Ints, Floats], Floats]
GEOMETRY = 256  # prompts that the geometric diagnostics look at
GIVEN = {"domain": ("domain",), "task": ("domain", "task"), "clusters": ("domain",)}  # levels that the data name


class Grouping:
    """Assigns each rollout its path, e.g. domain > task > prompt; ids last as long as the run.

    `memory`: free bytes, see `limits`; it is part of the state, so that a resumed run decides as this one does.
    """

    def __init__(self, config: GroupingConfig, *, memory: int, seed: int = 0) -> None:
        self._config, self._memory, self._seed = config, memory, seed
        self._clustered = config.kind in ("clusters", "first_match")
        self._judged = config.kind == "clusters"
        self._tree = Hierarchy(config.cosines, "first" if config.kind == "first_match" else "nearest")
        self._boundaries, self._fallback = Boundaries(self._tree), Fallback()
        self._reward, self._complexity = Standardiser(), Standardiser()
        self._given = GIVEN.get(config.kind, ())
        self._numbers: dict[tuple[str, ...], int] = {}  # of the groups that the data name, by their labels from the top
        self._prompts: dict[str, tuple[int, ...]] = {}  # own id and given groups by key; absent longest come first
        self._made = self._updates = self._rollouts = 0
        self._width = 0
        self._bound()
        self._icc = RunningMean(0.95)
        self._vectors: Vectors = np.zeros((0, 0), np.float32)  # [N, F] of the rollouts last assigned

    @property
    def names(self) -> tuple[str, ...]:
        """Of the levels, coarse to fine."""
        clusters = [f"cluster@{c:g}" for c in reversed(self._config.cosines)] if self._clustered else []
        return (*self._given, *clusters, "prompt")

    @property
    def level(self) -> Level:
        """Which levels the evidence allows to be used: all (`learned`), none that is learned, or the prompt alone."""
        return self._fallback.level if self._judged and self._config.fallback else "learned"

    @property
    def reason(self) -> str:
        """Why that `level`, in words."""
        return self._fallback.reason if self._judged and self._config.fallback else "no fallback for these groups"

    def assign(
        self, keys: Sequence[str], labels: Sequence[tuple[str, ...]], features: Features | None = None
    ) -> Groups:
        """Groups of N rollouts by their prompts' keys; rows of one prompt are alike in labels and features.

        labels [N]: each one's domain and task; levels nest, so the same task in two domains is two groups.

        `features` must be of the past alone; only clusters need them.
        """
        _, first, inverse = np.unique(np.array(keys, dtype=object), return_index=True, return_inverse=True)
        order = np.argsort(first)  # prompts in the order they come, whatever their keys
        rows, place = first[order], np.argsort(order)[inverse]
        given = np.array([self._numbered(labels[row]) for row in rows], np.int64).reshape(len(rows), len(self._given))
        levels = np.zeros((len(rows), len(self.names)), np.int64)
        levels[:, : len(self._given)] = given
        if self._clustered:
            vectors = self._combined(features, rows)
            within = given[:, 0].tolist() if self._judged else [0] * len(rows)
            clusters = [self._tree.assign(keys[row], *at) for row, *at in zip(rows, vectors, within, strict=True)]
            levels[:, self._learned] = self._tree.paths(np.array(clusters, np.int64))
            self._vectors = vectors[place]
        levels[:, -1] = [self._prompt(keys[row], path) for row, path in zip(rows, given.tolist(), strict=True)]
        return Groups(levels=levels[place], names=self.names)

    def paths(self, keys: Sequence[str]) -> Ints:
        """[M, L] present paths of prompts, e.g. of those in the history; -1 throughout where one is not remembered."""
        out = np.full((len(keys), len(self.names)), -1, np.int64)
        width = 1 + len(self._given)
        found = np.array([self._prompts.get(key, (-1,) * width) for key in keys], np.int64).reshape(-1, width)
        clusters = self._tree.finest.find_all(keys) if self._clustered else found[:, 0]
        known = (found[:, 0] >= 0) & (clusters >= 0)
        out[known, -1] = found[known, 0]
        if self._clustered:
            out[known, self._learned] = self._tree.paths(clusters[known])
        out[known, : len(self._given)] = found[known, 1:]
        return out

    def restrict(self, variances: Floats) -> Floats:
        """`variances` [L + 1] as the advantages should use them: those of the `level` in use."""
        return restrict(variances, self.level, self._learned)

    def learn(
        self, groups: Groups, rewards: Floats, variances: Floats | None, baseline: Baseline
    ) -> dict[str, list[int]]:
        """Judge by an update's rewards [N] the groups it was last assigned, and let them follow the evidence.

        `variances` [L + 1] are those from before the update; None while there are none, and nothing is judged. Returns
        the paths of remembered prompts where borders have moved, for whoever keeps paths; else nothing.
        """
        self._updates += 1
        self._rollouts += len(rewards)
        if not len(rewards):
            return {}
        levels = groups.levels
        if len(self.names) > 1:
            self._add_icc(np.asarray(rewards), levels)
        self._bound()
        if not self._judged or variances is None:
            return {}
        clusters = levels[:, -2]
        moved = sum(self._boundaries.accepted.values())
        self._fallback.add(*self._scores(rewards, levels, variances, baseline))
        if self._config.adapt:
            self._boundaries.judge(
                self._updates,
                levels,
                self._learned,
                self._vectors,
                variances,
                lambda tree, spread: baseline(rewards, tree, spread),
            )
            alive = np.array([self._tree.finest.alive(int(cluster)) for cluster in clusters])
            self._boundaries.propose(self._updates, clusters[alive], levels[alive, 0])
        if sum(self._boundaries.accepted.values()) == moved:
            return {}
        keys = list(self._prompts)
        return {key: path for key, path in zip(keys, self.paths(keys).tolist(), strict=True) if path[-1] >= 0}

    def report(self, used: Level | None = None) -> dict[str, float]:
        """Metrics of the groups: their numbers, their quality by rewards, and the level `used`, else in use."""
        row = {f"groups/{name}/count": float(count) for name, count in self._counts().items()}
        if len(self.names) > 1:
            row["groups/icc"] = self._icc.mean if self._icc.count else float("nan")
        if self._judged:
            errors = self._fallback.errors()
            row |= {f"groups/error/{name}": error for name, error in errors.items()}
            if errors.get("flat"):
                row["groups/explained"] = 1 - errors["learned"] / errors["flat"]
            row |= {f"groups/{kind}s": float(count) for kind, count in self._boundaries.accepted.items()}
            row["groups/fallback"] = float(("learned", "flat", "prompt").index(used or self.level))
        return row

    def diagnostics(self) -> dict[str, float]:
        """Bootstrap stability and silhouette of the finest clusters, on a sample; takes about a second."""
        rng = np.random.default_rng([self._seed, self._updates])
        vectors, clusters = self._tree.finest.sample(GEOMETRY, rng)
        if not len(vectors):
            return {}
        domains = self._tree.finest.domains(clusters).tolist()

        def again(rows: Ints) -> Ints:
            tree = Hierarchy(self._config.cosines[:1])
            return np.array([tree.assign(str(row), vectors[row], domains[row]) for row in rows.tolist()], np.int64)

        return {
            "groups/stability": stability(len(vectors), again, rng),
            "groups/silhouette": silhouette(vectors, clusters),
        }

    @property
    def _learned(self) -> slice:
        return slice(int(self._judged), len(self.names) - 1)

    def _combined(self, features: Features | None, rows: Ints) -> Vectors:
        if features is None:
            raise ValueError(f"grouping kind {self._config.kind!r} needs features")
        chosen = Features(**{name: np.asarray(values)[rows] for name, values in vars(features).items()})
        weights = self._config.weights.model_dump()
        vectors = combine(weights, chosen, self._reward(chosen.reward), self._complexity(chosen.complexity))
        if not self._width:
            self._width = vectors.shape[1]
            self._bound()
        return vectors

    def _bound(self) -> None:
        self._most_prompts = most_prompts(self._memory, self._width)
        self._tree.bound(most_clusters(self._memory, self._width, self._rollouts), self._most_prompts)

    def _numbered(self, labels: tuple[str, ...]) -> list[int]:
        paths = [labels[: level + 1] for level in range(len(self._given))]
        return [self._numbers.setdefault(path, len(self._numbers)) for path in paths]

    def _prompt(self, key: str, given: Sequence[int]) -> int:
        number, *given = self._prompts.pop(key, (self._made, *given))
        self._made += number == self._made
        self._prompts[key] = number, *given
        if len(self._prompts) > self._most_prompts:
            del self._prompts[next(iter(self._prompts))]
        return number

    def _counts(self) -> dict[str, int]:
        """Groups so far, by the name of their level above the prompt."""
        given = {name: sum(len(path) == 1 + i for path in self._numbers) for i, name in enumerate(self._given)}
        learned = zip(self.names[self._learned], self._tree.counts(), strict=True) if self._clustered else ()
        return given | dict(learned)

    def _add_icc(self, rewards: Floats, levels: Ints) -> None:
        _, first, prompt = np.unique(levels[:, -1], return_index=True, return_inverse=True)
        value = icc1(np.bincount(prompt, rewards) / np.bincount(prompt), levels[first, -2])
        if np.isfinite(value):
            self._icc.add(value)

    def _scores(self, rewards: Floats, levels: Ints, variances: Floats, baseline: Baseline) -> tuple[Any, Any]:
        """Squared residuals [N] by baseline, and which rollouts share their prompt."""
        _, first, prompt, sizes = np.unique(levels[:, -1], return_index=True, return_inverse=True, return_counts=True)
        rng = np.random.default_rng([self._seed, self._updates])
        swapped = levels[first]
        for domain in np.unique(levels[first, 0]):  # random clusters keep their sizes, and their domain
            there = np.flatnonzero(levels[first, 0] == domain)
            swapped[there, self._learned] = levels[first[rng.permutation(there)], self._learned]
        shuffled = swapped[prompt]
        squares = {
            "learned": baseline(rewards, levels, variances) ** 2,
            "random": baseline(rewards, shuffled, variances) ** 2,
            "flat": baseline(rewards, levels, restrict(variances, "flat", self._learned)) ** 2,
            "prompt": baseline(rewards, levels, restrict(variances, "prompt", self._learned)) ** 2,
        }
        return squares, sizes[prompt] > 1

    def state(self) -> dict[str, Any]:
        return {name: part.state() for name, part in self._parts().items()} | {
            "memory": self._memory,
            "numbers": dict(self._numbers),
            "prompts": dict(self._prompts),
            "counts": (self._made, self._updates, self._rollouts, self._width),
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        self._memory = state["memory"]
        for name, part in self._parts().items():
            part.load_state(state[name])
        self._numbers, self._prompts = dict(state["numbers"]), dict(state["prompts"])
        self._made, self._updates, self._rollouts, self._width = state["counts"]
        self._bound()

    def _parts(self) -> dict[str, Stateful]:
        parts: dict[str, Stateful] = {"tree": self._tree, "boundaries": self._boundaries, "fallback": self._fallback}
        return parts | {"reward": self._reward, "complexity": self._complexity, "icc": self._icc}
