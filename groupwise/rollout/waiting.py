"""Which rows enter the batch, and when: as many as its budget of cached tokens has room for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from groupwise.rollout.layout import lines_needed

# Rows enter once they are this share of those inside: prompts are read faster together.
ENTER_SHARE = 0.25


class Waiting:
    """Rows that wait for a place, longest prompts first and equal prompts together.

    At most `rows` are inside, with at most `tokens` cached tokens if each row gets as long as `longest`. Where prompts
    are `shared`, rows that enter together cache equal ones once, in as many lines as their layout has. Where rows may
    not be `joining` those inside, they wait until nobody is.
    """

    def __init__(
        self,
        prompts: Sequence[tuple[int, ...]],
        longest: int,
        *,
        rows: int,
        tokens: int,
        shared: bool,
        joining: bool,
    ) -> None:
        self._prompts, self._own, self._rows, self._tokens = prompts, longest, rows, tokens
        self._shared, self._joining = shared, joining
        self._order = sorted(range(len(prompts)), key=lambda i: (-len(prompts[i]), prompts[i], i))

    def __len__(self) -> int:
        return len(self._order)

    def take(self, inside: Sequence[int], lines: int) -> list[int]:
        """The rows that enter now beside those `inside`, who have cached so many prompts, as `lines` of their layout.

        At least one where nobody is inside, else often none.
        """
        if inside and not self._joining:
            return []
        count = self._fitting(inside, lines)
        if inside and count < min(len(self._order), ENTER_SHARE * len(inside)):
            return []
        entering, self._order = self._order[:count], self._order[count:]
        return entering

    def _fitting(self, inside: Sequence[int], lines: int) -> int:
        """How many of the next rows there is room for. All prompts are cached as if they were the longest."""
        next_ones = self._order[: self._rows - len(inside)]
        width = max((len(self._prompts[i]) for i in [*inside, *next_ones[:1]]), default=0)
        counts: Counter[tuple[int, ...]] = Counter()
        for count, i in enumerate(next_ones):
            counts[self._prompts[i]] += 1
            entering = lines_needed(counts.values()) if self._shared else count + 1
            if (len(inside) + count + 1) * self._own + (lines + entering) * width > self._tokens:
                return count if inside else max(count, 1)
        return len(next_ones)
