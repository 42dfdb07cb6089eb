"""The resolved recipe, and how it differs from the defaults."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from groupwise.config import Recipe
from groupwise.report.reading import Run
from groupwise.report.sections.base import Section


def build(run: Run) -> Section | None:
    if not run.recipe_text:
        return None
    return Section(
        id="recipe",
        title="Recipe",
        context={"changed": changed(run.recipe), "text": run.recipe_text},
    )


def changed(recipe: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Keys whose value is not the default: dotted key, value, default (empty where there is none)."""
    defaults = dict(_flat(Recipe().model_dump(mode="json")))
    return [
        (key, _said(value), _said(defaults[key]) if key in defaults else "")
        for key, value in _flat(recipe)
        if key not in defaults or defaults[key] != value
    ]


def _flat(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _said(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, list) and value and all(isinstance(item, Mapping) and "name" in item for item in value):
        return ", ".join(str(item["name"]) for item in value)
    return yaml.safe_dump(value, default_flow_style=True, width=1000).removesuffix("...\n").strip()
