"""Which row reads which prompt, so that the rows of one prompt can be multiplied with it together."""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import Tensor


def line_size(rows: int, prompts: int) -> int:
    """How many rows a line holds at most: the mean of a prompt's rows.

    Else one prompt with many rows would leave the grid nearly empty; a prompt with more rows takes several lines.
    """
    return -(-rows // prompts)


def lines_needed(counts: Collection[int]) -> int:
    """Lines that prompts with so many rows each take."""
    size = line_size(sum(counts), len(counts))
    return sum(-(-count // size) for count in counts)


class Layout:
    """B rows in a grid of P lines of G places: a line holds rows of one prompt, the places left over repeat row 0."""

    def __init__(self, line: Tensor) -> None:
        counts = torch.bincount(line)
        order = torch.argsort(line, stable=True)
        first = counts.cumsum(0) - counts
        place = torch.empty_like(line)
        place[order] = torch.arange(len(line), device=line.device) - first[line[order]]
        self._line, self._place = line, place  # [B]
        self._grid = line.new_zeros(len(counts), int(counts.max()))  # [P, G] the row in each place
        self._grid[line, place] = torch.arange(len(line), device=line.device)
        self._known: dict[int, tuple[Tensor, Tensor]] = {}

    def __len__(self) -> int:
        """Lines."""
        return len(self._grid)

    @classmethod
    def of(cls, prompt_of_row: Tensor) -> tuple[Layout, Tensor]:
        """The layout of rows [B], and the prompt in each line [P]."""
        whole = cls(prompt_of_row)
        size = line_size(len(prompt_of_row), len(whole))
        prompts, line = torch.unique(torch.stack([prompt_of_row, whole._place // size]), dim=1, return_inverse=True)
        return cls(line), prompts[0]

    def keep(self, rows: Tensor) -> tuple[Layout, Tensor]:
        """The layout of these rows only, and the lines that are left."""
        lines, line = torch.unique(self._line[rows], return_inverse=True)
        return Layout(line), lines

    def join(self, other: Layout) -> Layout:
        """The layout of these rows and those of another, whose lines come behind."""
        return Layout(torch.cat([self._line, other._line + len(self._grid)]))

    def by_prompt(self, x: Tensor) -> Tensor:
        """[B, H, R, E] -> [P, H, G * R, E]."""
        H, E = x.shape[1], x.shape[3]
        rows, _ = self._indices(H)
        return x.flatten(0, 1).index_select(0, rows).view(len(self._grid), H, -1, E)

    def by_row(self, x: Tensor, repeats: int) -> Tensor:
        """[P, H, G * R, E] -> [B, H, R, E], R = `repeats`."""
        H, E = x.shape[1], x.shape[3]
        _, places = self._indices(H)
        return x.view(-1, repeats, E).index_select(0, places).view(-1, H, repeats, E)

    def _indices(self, heads: int) -> tuple[Tensor, Tensor]:
        """For the grid [P * H * G] places among rows and heads [B * H], and the other way round."""
        if heads not in self._known:
            head = torch.arange(heads, device=self._line.device)
            rows = self._grid[:, None] * heads + head[:, None]
            places = (self._line[:, None] * heads + head) * self._grid.shape[1] + self._place[:, None]
            self._known[heads] = rows.flatten(), places.flatten()
        return self._known[heads]
