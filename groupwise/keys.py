"""The keys of a recipe, read from its schema, and how `--help` shows them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from functools import cache
from textwrap import wrap
from typing import Any

from pydantic import BaseModel

_TYPES = {
    "string": "TEXT",
    "integer": "INT",
    "number": "NUMBER",
    "boolean": "true|false",
    "array": "LIST",
    "object": "MAPPING",
}
_BOUNDS = {"exclusiveMinimum": "> {}", "minimum": ">= {}", "exclusiveMaximum": "< {}", "maximum": "<= {}"}
_COLUMN = 34  # where the meanings begin


@cache
def keys(kind: type[BaseModel]) -> dict[str, dict[str, Any]]:
    """Dotted key -> its JSON schema, in the order of the recipe; keys of a list's elements as `tasks[].name`."""
    schema = kind.model_json_schema()
    found: dict[str, dict[str, Any]] = {}

    def parts(field: Mapping[str, Any]) -> list[Any]:
        choices = [field, *field.get("anyOf", ()), *field.get("oneOf", ())]
        return [schema["$defs"][choice["$ref"].rpartition("/")[2]] for choice in choices if "$ref" in choice]

    def walk(prefix: str, node: Mapping[str, Any], defaults: Mapping[str, Any]) -> None:
        for name, field in node["properties"].items():
            default = defaults.get(name, field.get("default"))
            sections = parts(field)
            if not sections:
                required = name in node.get("required", ())
                found[prefix + name] = {**field, "default": default, "required": required}
            for section in sections:
                walk(f"{prefix}{name}.", section, default or {})
            for element in parts(field.get("items", {})):
                walk(f"{prefix}{name}[].", element, {})

    walk("", schema, {})
    return found


def describe(kind: type[BaseModel], width: int) -> str:
    """Every key with its meaning, default and allowed values, a paragraph a section."""
    rows = keys(kind)
    paragraphs = []
    for section, members in by_section(rows).items():
        title = f"each of {section.removesuffix('[]')}" if section.endswith("[]") else section or "recipe"
        paragraphs.append("\n".join([f"{title}:", *(_row(name, rows[name], width) for name in members)]))
    return "\n\n".join(paragraphs)


def by_section(names: Iterable[str]) -> dict[str, list[str]]:
    """Dotted keys by what stands before their last dot; the recipe's own, under "", come first."""
    sections: dict[str, list[str]] = {"": []}
    for name in names:
        sections.setdefault(name.rpartition(".")[0], []).append(name)
    return sections


def _row(name: str, field: Mapping[str, Any], width: int) -> str:
    # A nullable key's values are those of its first alternative; null is its default.
    values = {**field, **field.get("anyOf", [{}])[0]}
    choices = [values["const"]] if "const" in values else values.get("enum", [])
    facts = [" | ".join(choices), ", ".join(says.format(values[b]) for b, says in _BOUNDS.items() if b in values)]
    if field["required"]:
        facts.append("required")
    elif field["default"] is not None:
        facts.append(f"default: {json.dumps(field['default']).strip(chr(34))}")
    flag = name.rpartition(".")[2] if "[]" in name else f"--{name}"
    label = f"  {flag} {'CHOICE' if choices else _TYPES[values['type']]}"
    meaning = f"{field.get('description', '')} [{'; '.join(filter(None, facts))}]".removesuffix(" []")
    start = [label] if len(label) >= _COLUMN else []
    lines = wrap(
        meaning,
        width,
        initial_indent=" " * _COLUMN if start else label.ljust(_COLUMN),
        subsequent_indent=" " * _COLUMN,
        break_on_hyphens=False,
    )
    return "\n".join(start + lines)
