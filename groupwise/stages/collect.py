"""Rollouts of an update: draw prompts, generate, score; redraw where the recipe asks for it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from groupwise.config import RolloutConfig
from groupwise.rollout.encode import encode
from groupwise.run.world import World
from groupwise.tasks.mixture import Mixture
from groupwise.tasks.rewards import length_penalty
from groupwise.tasks.scoring import Scorer, all_failed
from groupwise.types import Engine, Prompt, Rollout, Sampling, UserError

PATIENCE = 1000  # prompts in a row that may be too long before the run gives up


@dataclass
class Collected:
    """What an update has gathered: rollouts to learn from, and those that were discarded or dropped on the way."""

    kept: list[Rollout] = field(default_factory=list)
    discarded: list[Rollout] = field(default_factory=list)  # scored well, but their group teaches nothing
    dropped: list[Rollout] = field(default_factory=list)  # failed, timed out or unscored
    rounds: int = 0  # of generation
    lacking: int = 0  # prompts of the last round whose every completion was discarded

    @property
    def scored(self) -> list[Rollout]:
        return self.kept + self.discarded

    @property
    def all(self) -> list[Rollout]:
        return self.scored + self.dropped


class Collector:
    """Draws, generates and scores; its state is the data cursor and the number of completions ever drawn.

    `repeat`: share of the prompts that are drawn twice where the others are drawn once.
    `context`: most tokens that prompt and completion may have together; None: as many as one likes.
    """

    def __init__(
        self,
        config: RolloutConfig,
        seed: int,
        mixture: Mixture,
        tokenizer: Any,
        engine: Engine,
        scorer: Scorer,
        context: int | None = None,
        world: World | None = None,
        repeat: float = 0.0,
    ) -> None:
        self._config, self._mixture, self._tokenizer = config, mixture, tokenizer
        self._engine, self._scorer, self._world = engine, scorer, world or World()
        self._room = math.inf if context is None else context - config.max_tokens
        self._twice = round(config.batch_size * repeat / (1 + repeat)) if config.group_size == 1 else 0
        self.skipped = 0  # prompts that were too long for the model, since the run began
        self._generated = 0  # gives each completion of the run a random stream of its own
        self._sampling = Sampling(
            max_tokens=config.max_tokens,
            temperature=config.temperature,
            top_p=config.top_p,
            top_k=config.top_k,
            stop=tuple(config.stop),
            seed=seed,
        )

    def missing(self, collected: Collected) -> int:
        """How many prompts are still to be drawn for this update."""
        if collected.rounds == 0:
            return self._config.batch_size // self._config.group_size - self._twice
        if self._config.zero_variance != "redraw" or collected.rounds > self._config.max_redraws:
            return 0
        return collected.lacking

    def draw(self, count: int) -> list[Prompt]:
        """The next prompts that fit the model's context, encoded; longer ones are skipped and counted."""
        prompts: list[Prompt] = []
        in_vain = 0
        while len(prompts) < count:
            drawn = encode(self._mixture.draw(count - len(prompts)), self._tokenizer)
            fitting = [prompt for prompt in drawn if len(prompt.token_ids) <= self._room]
            self.skipped += len(drawn) - len(fitting)
            in_vain = 0 if fitting else in_vain + len(drawn)
            if in_vain > PATIENCE:
                raise UserError(
                    f"{in_vain} prompts in a row are longer than the {self._room} tokens that rollout.max_tokens "
                    f"{self._config.max_tokens} leaves of the model's context"
                )
            prompts += fitting
        return prompts

    def generate(self, prompts: Sequence[Prompt]) -> list[Rollout]:
        """`group_size` completions of each prompt; of this process's share of the prompts, where there are several."""
        groups: list[list[tuple[int, Prompt]]] = []
        first = self._generated // self._config.batch_size * self._twice  # so that every task has its turn
        for place, prompt in enumerate(prompts):
            size = self._config.group_size + ((place - first) % len(prompts) < self._twice)
            groups.append([(key, prompt) for key in range(self._generated, self._generated + size)])
            self._generated += size
        mine = [row for group in self._world.share(groups) for row in group]
        with self._world.together():
            completions = self._engine.generate([p for _, p in mine], [key for key, _ in mine], self._sampling)
        return [Rollout(prompt=p, completion=c) for (_, p), c in zip(mine, completions, strict=True)]

    def score(self, rollouts: list[Rollout]) -> list[Rollout]:
        """Fill in the rewards; returns the rollouts of all processes."""
        with self._world.together():
            self._scorer.score(rollouts)
        if self._config.overlong == "penalise":
            for rollout in rollouts:
                length, whole = len(rollout.completion.token_ids), rollout.completion.finish_reason != "length"
                # a completion that ends by itself on the very last token was not too long
                length = min(length, self._config.max_tokens - 1) if whole else length
                penalty = length_penalty(length, self._config.max_tokens, self._config.overlong_buffer)
                add_reward(rollout, "overlong", penalty)
        return self._world.gather(rollouts)

    def sort(self, rollouts: Sequence[Rollout], collected: Collected, where: str) -> None:
        """Put rollouts where they belong; a group without variance is discarded when the recipe says so.

        Raises UserError when not one rollout of the update could be scored.
        """
        collected.rounds += 1
        rewards: dict[str, set[float]] = {}
        for rollout in rollouts:
            if rollout.dropped is None:
                rewards.setdefault(rollout.prompt.id, set()).add(rollout.reward)
        discards = self._config.zero_variance != "keep"
        flat = [discards and r.dropped is None and len(rewards[r.prompt.id]) == 1 for r in rollouts]
        for rollout, useless in zip(rollouts, flat, strict=True):
            place = collected.dropped if rollout.dropped else collected.discarded if useless else collected.kept
            place.append(rollout)
        if not collected.scored:
            raise UserError(all_failed(collected.dropped, where))
        # blocks of siblings, not ids: a small family may give a prompt twice. Dropped rollouts are not replaced.
        size = self._config.group_size
        collected.lacking = sum(all(flat[start : start + size]) for start in range(0, len(flat), size))

    def state(self) -> dict[str, Any]:
        return {"mixture": self._mixture.state(), "generated": self._generated, "skipped": self.skipped}

    def load_state(self, state: Mapping[str, Any]) -> None:
        self._mixture.load_state(state["mixture"])
        self._generated, self.skipped = state["generated"], state["skipped"]


def add_reward(rollout: Rollout, name: str, value: float) -> None:
    """Add a named reward of weight 1 to a scored rollout; a dropped one is left alone."""
    if rollout.dropped is None:
        rollout.rewards[name] = value
        rollout.reward += value
