"""Which rows enter the batch, and when: as many as its budget of cached tokens has room for."""

from __future__ import annotations

from collections.abc import Sequence

# Rows enter once they are this share of those inside: prompts are read faster together.
ENTER_SHARE = 0.25


class Waiting:
    """Rows that wait for a place, longest prompts first and equal prompts together.

    At most `rows` are inside, with at most `tokens` cached tokens if each row gets as long as `longest`. Where the
    batch is `shared`, rows of equal prompts that enter together cache the prompt once, and rows may enter while others
    are running; else they wait until nobody is inside.
    """

    def __init__(
        self, prompts: Sequence[tuple[int, ...]], longest: int, *, rows: int, tokens: int, shared: bool
    ) -> None:
        self._prompts, self._own, self._rows, self._tokens, self._shared = prompts, longest, rows, tokens, shared
        self._order = sorted(range(len(prompts)), key=lambda i: (-len(prompts[i]), prompts[i], i))

    def __len__(self) -> int:
        return len(self._order)

    def take(self, inside: Sequence[int]) -> list[int]:
        """The rows that enter now beside those `inside`: at least one where nobody is inside, else often none."""
        if inside and not self._shared:
            return []
        count = self._fitting(inside)
        if inside and count < min(len(self._order), ENTER_SHARE * len(inside)):
            return []
        entering, self._order = self._order[:count], self._order[count:]
        return entering

    def _fitting(self, inside: Sequence[int]) -> int:
        """How many of the next rows there is room for. All prompts are cached as if they were the longest."""
        if not self._order:
            return 0
        width = max(len(self._prompts[i]) for i in [*inside, self._order[0]])
        cached = len(inside) * self._own + len({self._prompts[i] for i in inside}) * width
        entering: set[tuple[int, ...]] = set()
        for count, i in enumerate(self._order[: self._rows - len(inside)]):
            known = self._shared and self._prompts[i] in entering
            cached += self._own + (0 if known else width)
            if cached > self._tokens:
                return count if inside else max(count, 1)
            entering.add(self._prompts[i])
        return min(len(self._order), self._rows - len(inside))
