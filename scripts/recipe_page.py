"""Write docs/recipe.md, every key of a recipe with its meaning, from the recipe's own schema.

python scripts/recipe_page.py
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from groupwise.config import Recipe, SftRecipe
from groupwise.keys import by_section, keys

PAGE = Path(__file__).resolve().parent.parent / "docs" / "recipe.md"
HEAD = """# Every recipe key

A recipe is a YAML file that names only what differs from the defaults below. Each key is also an option of the
command line, dotted: `groupwise train recipes/demo.yaml --rollout.group_size 4`; the option wins. Lists and mappings
are written there as in the file: `--tasks '[{name: gcd}]'`. This page is written by `scripts/recipe_page.py` from what
validates the recipe; `groupwise train --help` prints the same.
"""


def page() -> str:
    """The whole page, Markdown."""
    parts = [HEAD, "## `groupwise train`\n", *_tables(Recipe), "## `groupwise sft`\n", *_tables(SftRecipe)]
    return "\n".join(parts)


def _tables(kind: type[BaseModel]) -> list[str]:
    rows = keys(kind)
    out = []
    for section, members in by_section(rows).items():
        title = section.replace("[]", " (each of the list)") if section else "The run"
        lines = "\n".join(_row(name, rows[name]) for name in members)
        out.append(f"### {title}\n\n| key | meaning | allowed | default |\n|---|---|---|---|\n{lines}\n")
    return out


def _row(name: str, field: Mapping[str, Any]) -> str:
    values = {**field, **field.get("anyOf", [{}])[0]}
    choices = [values["const"]] if "const" in values else values.get("enum", [])
    bounds = {"exclusiveMinimum": "> {}", "minimum": ">= {}", "exclusiveMaximum": "< {}", "maximum": "<= {}"}
    limits = ", ".join(says.format(values[bound]) for bound, says in bounds.items() if bound in values)
    allowed = ", ".join(f"`{choice}`" for choice in choices) or " ".join(filter(None, (values["type"], limits)))
    default = "required" if field["required"] else f"`{json.dumps(field['default'])}`"
    if field["default"] is None and not field["required"]:
        default = ""
    meaning = field.get("description", "").replace("\n", " ").replace("|", "\\|")
    return f"| `{name.rpartition('.')[2]}` | {meaning} | {allowed} | {default} |"


if __name__ == "__main__":
    PAGE.write_text(page())
