"""Whether a completion is short."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from pydantic import Field

from groupwise.types import UserError


def length(
    completion_ids: Sequence[Sequence[int]],
    *,
    max: Annotated[int, Field(gt=0)],  # noqa: A002 - the recipe's own word
    target: Annotated[int, Field(ge=0)] = 0,
) -> list[float]:
    """Between 0 and 1, by the number of tokens n: min(1, max(0, (max - n) / (max - target))).

    1 up to `target` tokens, 0 from `max` tokens on, and a straight line between. It pays for silence as well: let it
    require the reward for the right answer (`requires: accuracy`).

    >>> length([[7] * 50, [7] * 150, [7] * 300], max=200, target=100)
    [1.0, 0.5, 0.0]
    """
    return [min(1.0, 1 - (len(ids) - target) / (max - target)) if len(ids) < max else 0.0 for ids in completion_ids]


def check_bounds(max: int, target: int) -> None:  # noqa: A002
    """Refuse a line that does not fall."""
    if target >= max:
        raise UserError(f"params.target: less than params.max, {max}, not {target}")
