"""A model that is not here: the hub is asked whether it has it, before anything is fetched."""

from __future__ import annotations

from groupwise.run.hub import DEADLINE, why_not
from groupwise.types import UserError


def check_reachable(name: str, deadline: float = DEADLINE) -> None:
    """Raise UserError unless the hub says that it has the model: one request, answered or not within `deadline`."""
    if why := why_not("model", name, deadline):
        raise UserError(f"model: {name!r} is neither a folder here nor reachable on the hub ({why})")
