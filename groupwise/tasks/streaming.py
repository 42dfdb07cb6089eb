"""Data without a length: an IterableDataset of `datasets`, read in passes of a seeded order and never held whole."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from random import Random
from typing import Any

from groupwise.tasks.columns import Questions, likeness_of
from groupwise.tasks.hold_out import is_held_out
from groupwise.tasks.passes import Passes
from groupwise.tasks.records import Record
from groupwise.types import Prompt, PromptStream

BUFFER = 1000  # records that are shuffled at a time
PASS = 2**40  # a cursor is the number of its pass times this, plus the records read of the pass
MOST_SEARCHED = 100_000  # records among which held-out prompts are looked for


class Streamed:
    """Records that come one after another, perhaps for ever."""

    def __init__(self, data: Any) -> None:
        self._data = data

    def __iter__(self) -> Iterator[Record]:
        return iter(self._data)

    def shuffled(self, seed: int, cursor: int) -> Iterator[Record]:
        """The rest of the cursor's pass, in the order of this seed and pass. What was read before is read again."""
        number, read = divmod(cursor, PASS)
        order = Random(f"{seed}/{number}").getrandbits(32)
        return iter(self._data.shuffle(seed=order, buffer_size=BUFFER).skip(read))


class StreamedSides:
    """Both sides of streamed data: the held-out prompts are the first that the hash chooses, or another data set's."""

    def __init__(
        self, data: Streamed, make: Callable[[Record], Prompt], held_out: Questions | None, share: float
    ) -> None:
        self._data, self._make, self._share, self._asked = data, make, share, held_out
        self._kept = {likeness_of(prompt) for prompt in held_out or ()}

    def stream(self, seed: int, held_out: bool, cursor: int) -> PromptStream:
        if not held_out:
            return StreamedPasses(self, seed, cursor)
        if self._asked is not None:
            first = {prompt.id: place for place, prompt in reversed(list(enumerate(self._asked)))}
            return Passes(self._asked, sorted(first.values()), seed, cursor, endless=False)
        return Once(self._first_held_out(), cursor)

    def pass_from(self, seed: int, cursor: int) -> Iterator[Prompt | None]:
        """The rest of a pass; None for a prompt that is held out."""
        for record in self._data.shuffled(seed, cursor):
            prompt = self._make(record)
            yield None if self._is_held_out(prompt) else prompt

    def _is_held_out(self, prompt: Prompt) -> bool:
        key = likeness_of(prompt)
        return key in self._kept if self._asked is not None else is_held_out(key, self._share)

    def _first_held_out(self) -> Iterator[Prompt]:
        seen: set[str] = set()
        for record in islice(self._data, MOST_SEARCHED if self._share else 0):
            prompt = self._make(record)
            if prompt.id not in seen and self._is_held_out(prompt):
                seen.add(prompt.id)
                yield prompt


class StreamedPasses:
    """Endless passes over the training prompts; it ends where a whole pass has none."""

    def __init__(self, sides: StreamedSides, seed: int, cursor: int) -> None:
        self.cursor = cursor
        self._sides, self._seed = sides, seed
        self._prompts = sides.pass_from(seed, cursor)
        self._in_vain = cursor % PASS == 0  # whether the pass has given nothing since it began

    def __iter__(self) -> StreamedPasses:
        return self

    def __next__(self) -> Prompt:
        while True:
            for prompt in self._prompts:
                self.cursor += 1
                if prompt is not None:
                    self._in_vain = False
                    return prompt
            if self._in_vain:
                raise StopIteration
            self._in_vain = True
            self.cursor = (self.cursor // PASS + 1) * PASS
            self._prompts = self._sides.pass_from(self._seed, self.cursor)


class Once:
    """Prompts in their order, once; `cursor` counts those given."""

    def __init__(self, prompts: Iterable[Prompt], cursor: int) -> None:
        self.cursor = cursor
        self._prompts = islice(prompts, cursor, None)

    def __iter__(self) -> Once:
        return self

    def __next__(self) -> Prompt:
        prompt = next(self._prompts)
        self.cursor += 1
        return prompt
