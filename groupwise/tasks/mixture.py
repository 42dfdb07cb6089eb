"""Several tasks mixed by weight into one stream of prompts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any

from groupwise.types import Prompt, Task, UserError


class Mixture:
    """Draws training prompts so that every prefix of the stream has the tasks' shares as nearly as whole numbers allow.

    Its state is one cursor and one count a task, so a run continues exactly where it stopped.
    """

    def __init__(self, tasks: Sequence[Task], weights: Sequence[float], seed: int) -> None:
        if not tasks:
            raise UserError("tasks: the recipe names none; add at least one, e.g. tasks: [{name: chain_sum}]")
        self._names = [task.name for task in tasks]
        self._shares = [w / sum(weights) for w in weights]
        self._streams = [task.stream(seed, held_out=False) for task in tasks]
        self._tasks, self._seed = list(tasks), seed
        self._drawn = [0] * len(tasks)

    def draw(self, count: int) -> list[Prompt]:
        """The next `count` prompts."""
        return [self._next() for _ in range(count)]

    def _next(self) -> Prompt:
        total = sum(self._drawn) + 1
        lag = [share * total - drawn for share, drawn in zip(self._shares, self._drawn, strict=True)]
        index = max(range(len(lag)), key=lag.__getitem__)
        self._drawn[index] += 1
        prompt = next(self._streams[index], None)
        if prompt is None:
            raise UserError(f"task {self._names[index]}: has no prompts to train on")
        return prompt

    def state(self) -> dict[str, Any]:
        return {"drawn": list(self._drawn), "cursors": [stream.cursor for stream in self._streams]}

    def load_state(self, state: Mapping[str, Any]) -> None:
        self._drawn = list(state["drawn"])
        self._streams = [
            task.stream(self._seed, held_out=False, cursor=cursor)
            for task, cursor in zip(self._tasks, state["cursors"], strict=True)
        ]


def held_out_prompts(tasks: Sequence[Task], count: int, seed: int) -> list[Prompt]:
    """`count` different held-out prompts a task, the same for the same seed; all there are of a finite task.

    UserError where another task has fewer: it can be widened.
    """
    prompts: list[Prompt] = []
    for task in tasks:
        found = list(islice(task.stream(seed, held_out=True), count))
        if len(found) < count and not getattr(task, "finite", False):
            raise UserError(
                f"task {task.name}: has only {len(found)} held-out prompts, eval.prompts asks for {count}; "
                "widen its params or lower eval.prompts"
            )
        prompts += found
    return prompts
