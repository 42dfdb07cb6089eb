"""Group-aware GRPO post-training of language models. Names are imported when they are first used."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from groupwise.advantage.hierarchical import hierarchical_advantages
    from groupwise.config import Recipe
    from groupwise.loss import policy_loss
    from groupwise.report.notebook import Run
    from groupwise.stages.grpo import Trainer
    from groupwise.types import UserError

    __version__: str

__all__ = ["Recipe", "Run", "Trainer", "UserError", "__version__", "hierarchical_advantages", "policy_loss"]

_HOMES = {
    "Recipe": "groupwise.config",
    "Run": "groupwise.report.notebook",
    "Trainer": "groupwise.stages.grpo",
    "UserError": "groupwise.types",
    "hierarchical_advantages": "groupwise.advantage.hierarchical",
    "policy_loss": "groupwise.loss",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import PackageNotFoundError, version

        try:
            value: Any = version("groupwise")
        except PackageNotFoundError:  # a checkout that is not installed
            value = "0+checkout"
    elif name in _HOMES:
        value = getattr(import_module(_HOMES[name]), name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
