"""Which row reads which prompt, so that the rows of one prompt can be multiplied with it together."""

from __future__ import annotations

import torch
from torch import Tensor


class Layout:
    """B rows in a grid of P lines of G places: a line holds rows of one prompt, the places left over repeat row 0."""

    def __init__(self, line: Tensor) -> None:
        counts = torch.bincount(line)
        order = torch.argsort(line, stable=True)
        first = counts.cumsum(0) - counts
        self._line = line  # [B]
        self._place = torch.empty_like(line)  # [B]
        self._place[order] = torch.arange(len(line), device=line.device) - first[line[order]]
        self._grid = line.new_zeros(len(counts), 1, int(counts.max()))  # [P, 1, G] the row in each place
        self._grid[line, 0, self._place] = torch.arange(len(line), device=line.device)

    @classmethod
    def of(cls, prompt_of_row: Tensor) -> tuple[Layout, Tensor]:
        """The layout of rows [B], and the prompt in each line [P].

        A line holds at most the mean number of rows a prompt has; a prompt with more takes several lines. Otherwise
        one prompt with many rows would leave the grid nearly empty.
        """
        whole = cls(prompt_of_row)
        size = -(-len(prompt_of_row) // len(whole._grid))
        prompts, line = torch.unique(torch.stack([prompt_of_row, whole._place // size]), dim=1, return_inverse=True)
        return cls(line), prompts[0]

    def keep(self, rows: Tensor) -> tuple[Layout, Tensor]:
        """The layout of these rows only, and the lines that are left."""
        lines, line = torch.unique(self._line[rows], return_inverse=True)
        return Layout(line), lines

    def by_prompt(self, x: Tensor) -> Tensor:
        """[B, H, R, E] -> [P, H, G * R, E]."""
        heads = torch.arange(x.shape[1], device=x.device)[None, :, None]
        return x[self._grid, heads].flatten(2, 3)

    def by_row(self, x: Tensor, repeats: int) -> Tensor:
        """[P, H, G * R, E] -> [B, H, R, E], R = `repeats`."""
        P, H, _, E = x.shape
        return x.view(P, H, -1, repeats, E).transpose(1, 2)[self._line, self._place]
