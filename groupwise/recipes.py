"""Recipes in and out: a YAML file and dotted overrides become one validated object, and the other way round."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from groupwise.arguments import Parser
from groupwise.keys import keys
from groupwise.mistakes import did_you_mean, explain, mistake, nearest_paths

AnyRecipe = TypeVar("AnyRecipe", bound=BaseModel)


EXAMPLES = {
    "--tasks": "[{name: gcd}]",
    "--rewards": "[{name: accuracy}]",
    "--data": "[{name: gcd}]",
    "--grouping.thresholds": "[0.7, 0.5]",
    "--update.betas": "[0.9, 0.95]",
    "list": "[a, b]",
    "mapping": "{a: 1}",
}


def load_recipe(kind: type[AnyRecipe], path: Path | None, overrides: Sequence[str]) -> AnyRecipe:
    """The recipe of class `kind` in the YAML file `path` (None: the defaults) with overrides `--section.key value`."""
    written = read_yaml(path) if path else {}
    return recipe_of(kind, _merge(written, _parse_overrides(kind, overrides)), path, written)


def recipe_of(
    kind: type[AnyRecipe], tree: Mapping[str, Any], path: Path | None = None, written: object = None
) -> AnyRecipe:
    """The recipe of class `kind` with these keys. UserError names the key and the file `path` with `written`."""
    # A recipe may change some defaults of a section; they hold even when the file names the section's other keys.
    defaults = {name: field.default for name, field in kind.model_fields.items()}
    own = {name: d.model_dump(exclude_unset=True) for name, d in defaults.items() if isinstance(d, BaseModel)}
    try:
        return kind.model_validate(_merge(own, tree))
    except ValidationError as error:
        raise mistake(explain(error.errors(), list(keys(kind)), path, written)) from None


def dump_recipe(recipe: BaseModel) -> str:
    """YAML with every key, defaults included; loads back to an equal recipe."""
    return yaml.dump(recipe.model_dump(), Dumper=_Dumper, sort_keys=False, width=120)


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file."""
    try:
        content = yaml.load(path.read_bytes(), Loader=_Loader)  # a SafeLoader
    except FileNotFoundError:
        near = nearest_paths(path, path.parent.glob("*.y*ml"))
        raise mistake(f"no recipe file {path}{did_you_mean(near)}") from None
    except OSError as error:
        raise mistake(f"cannot read the recipe {path}: {(error.strerror or str(error)).lower()}") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        says = ", ".join(filter(None, (error.context, error.problem)))
        raise mistake(f"{path}, line {mark.line + 1 if mark else '?'}: {says}") from None
    except (yaml.YAMLError, ValueError) as error:  # ValueError: an impossible date, a number of too many digits
        raise mistake(f"{path} is not YAML: {str(error).splitlines()[0]}") from None
    if content is None:
        raise mistake(f"{path} is empty; a recipe is a mapping of keys to values, e.g. `steps: 100`")
    if not isinstance(content, dict):
        raise mistake(f"{path} holds no keys; a recipe is a mapping of keys to values, e.g. `steps: 100`")
    return content


def _parse_overrides(kind: type[BaseModel], overrides: Sequence[str]) -> dict[str, Any]:
    """The words as a nested mapping; text stays text, for the model knows best what it should be."""
    parser = Parser()
    known = parser.add_keys(kind)
    tree: dict[str, Any] = {}
    for flag, text in vars(parser.parse(overrides, known)).items():
        *sections, last = flag.removeprefix("--").split(".")
        node = tree
        for section in sections:
            node = node.setdefault(section, {})
        node[last] = _value(flag, text, known[flag.removeprefix("--")])
    return tree


def _value(flag: str, text: str, field: Mapping[str, Any]) -> Any:
    types = {choice.get("type") for choice in (field, *field.get("anyOf", ()))}
    if text == "null" and "null" in types:
        return None
    if not types & {"array", "object"}:
        return text
    try:
        value = yaml.load(text, Loader=_Loader)  # as in the file; JSON is YAML
    except (yaml.YAMLError, ValueError):
        value = None
    if isinstance(value, list if "array" in types else dict):
        return value
    kind = "list" if "array" in types else "mapping"
    raise mistake(f"{flag}: {text} is not a {kind}; write e.g. {flag} '{EXAMPLES.get(flag, EXAMPLES[kind])}'")


def _merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        old = merged.get(key)
        merged[key] = _merge(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return merged


class _Loader(yaml.SafeLoader):
    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if key.value in seen:
                raise yaml.MarkedYAMLError(problem=f"the key {key.value} is given twice", problem_mark=key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: object) -> bool:
        return True


# YAML 1.1, as PyYAML speaks it, takes 1e-6 for text. Reader and writer must agree that it is a number.
for _side in (_Loader, _Dumper):
    _side.add_implicit_resolver(
        "tag:yaml.org,2002:float", re.compile(r"[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
    )
