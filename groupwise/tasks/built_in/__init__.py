"""Rewards by name: what a recipe may write as a reward's `function` without any code of its own."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from functools import partial
from typing import Any, NamedTuple, get_type_hints

from pydantic import ConfigDict, ValidationError, create_model

from groupwise.tasks.built_in.exact import exact
from groupwise.tasks.built_in.format import check_tags, tag_format
from groupwise.tasks.built_in.language import language
from groupwise.tasks.built_in.length import check_bounds, length
from groupwise.tasks.built_in.math import load_library, math
from groupwise.tasks.built_in.regex import regex
from groupwise.types import UserError


class BuiltIn(NamedTuple):
    """`function`: its keyword-only parameters are the reward's `params`, checked against their annotations.

    `prepare` gets the same parameters once, before the first call: it loads what takes long, and raises UserError.
    """

    function: Callable[..., Any]
    prepare: Callable[..., Any] = lambda **params: None


BUILT_IN: dict[str, BuiltIn] = {
    "math": BuiltIn(math, load_library),
    "exact": BuiltIn(exact),
    "regex": BuiltIn(regex),
    "format": BuiltIn(tag_format, check_tags),
    "language": BuiltIn(language),
    "length": BuiltIn(length, check_bounds),
}


def built_in(name: str, params: Mapping[str, Any]) -> Callable[..., Any]:
    """The reward `name` with its parameters filled in, ready to be called."""
    function, prepare = BUILT_IN[name]
    checked = check_params(name, params)
    prepare(**checked)
    return partial(function, **checked)


def check_params(name: str, params: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters with their right types. Raises UserError naming the key, what was given, and what is allowed."""
    function = BUILT_IN[name].function
    hints = get_type_hints(function, include_extras=True)
    allowed = {p.name: p for p in inspect.signature(function).parameters.values() if p.kind is p.KEYWORD_ONLY}
    for key in params:
        if key not in allowed:
            near = get_close_matches(key, allowed)
            there = f"did you mean {near[0]}?" if near else f"it has {', '.join(allowed) or 'none'}"
            raise UserError(f"params.{key}: {name} has no such parameter; {there}")
    fields: dict[str, Any] = {
        key: (hints[key], ... if p.default is p.empty else p.default) for key, p in allowed.items()
    }
    try:
        model = create_model("Params", __config__=ConfigDict(strict=True, protected_namespaces=()), **fields)(**params)
    except ValidationError as error:
        mistake = error.errors(include_url=False)[0]
        key = ".".join(map(str, mistake["loc"]))
        if mistake["type"] == "missing":
            raise UserError(f"params.{key}: {name} needs it") from None
        raise UserError(f"params.{key}: {mistake['msg']}, not {mistake['input']!r}") from None
    return {key: getattr(model, key) for key in allowed}
