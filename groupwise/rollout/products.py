"""Another way for layers of a model to multiply, for as long as it decodes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

Forward = tuple[Any, Callable[[Tensor], Tensor]]  # a layer, and what stands in for its own forward


def layers(model: nn.Module, kinds: Sequence[type[nn.Module]]) -> list[Any]:
    """Those of just these kinds, less those whose forward has been replaced already: whoever did it needs it."""
    return [layer for layer in model.modules() if type(layer) in kinds and "forward" not in vars(layer)]


@contextmanager
def instead(forwards: Sequence[Forward]) -> Iterator[None]:
    """These forwards stand in for those of the layers' classes within the block."""
    for layer, forward in forwards:
        layer.forward = forward
    try:
        yield
    finally:
        for layer, _ in forwards:
            del layer.forward  # that of its class is back
