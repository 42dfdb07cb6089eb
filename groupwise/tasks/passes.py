"""Data with a length: which of its prompts are trained on and which are held out, and passes over either side."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Sequence
from random import Random

from groupwise.tasks.columns import Questions, likeness_of
from groupwise.tasks.hold_out import is_held_out
from groupwise.types import Prompt


class Sides:
    """Both sides of a data set: the held-out prompts are a `share`, chosen by hash, or those of another data set.

    Every record is read once, and checked. Raises UserError for one that makes no prompt.
    """

    def __init__(self, questions: Questions, held_out: Questions | None, share: float) -> None:
        self._questions, self._asked = questions, questions if held_out is None else held_out
        self.training, self.held_out = array("q"), array("q")  # places of the records
        self.removed = 0  # records to train on whose prompt the other data set holds out
        kept: set[str] = set()
        for place, prompt in _distinct(held_out or ()):
            self.held_out.append(place)
            kept.add(likeness_of(prompt))
        for place, prompt in _distinct(questions):
            if held_out is None:
                side = self.held_out if is_held_out(likeness_of(prompt), share) else self.training
                side.append(place)
            elif likeness_of(prompt) in kept:
                self.removed += 1
            else:
                self.training.append(place)
        records = len(questions) + len(held_out or ())
        self.repeated = records - len(self.training) - len(self.held_out) - self.removed  # they repeat a prompt

    def stream(self, seed: int, held_out: bool, cursor: int) -> Passes:
        if held_out:
            return Passes(self._asked, self.held_out, seed, cursor, endless=False)
        return Passes(self._questions, self.training, seed, cursor)


class Passes:
    """The questions at `places`, each once a pass, each pass in a new order; `cursor` counts the prompts given."""

    def __init__(
        self, questions: Questions, places: Sequence[int], seed: int, cursor: int = 0, *, endless: bool = True
    ) -> None:
        self.cursor = cursor
        self._questions, self._places, self._seed, self._endless = questions, places, seed, endless
        self._order: list[int] = []
        self._pass = -1  # whose order is at hand

    def __iter__(self) -> Passes:
        return self

    def __next__(self) -> Prompt:
        if not self._places or (self.cursor >= len(self._places) and not self._endless):
            raise StopIteration
        number, index = divmod(self.cursor, len(self._places))
        if number != self._pass:
            self._pass, self._order = number, list(range(len(self._places)))
            Random(f"{self._seed}/{number}").shuffle(self._order)
        self.cursor += 1
        return self._questions[self._places[self._order[index]]]


def _distinct(questions: Iterable[Prompt]) -> Iterator[tuple[int, Prompt]]:
    """Place and prompt of every question that none before it repeats."""
    seen: set[int] = set()  # numbers take less room than texts
    for place, prompt in enumerate(questions):
        key = int(prompt.id, 16)
        if key not in seen:
            seen.add(key)
            yield place, prompt
