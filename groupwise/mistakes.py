"""The words for a user's mistakes: what was given, what is allowed, what was probably meant; one line each."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

# pydantic's error type -> what the value should have been, or the whole sentence where that takes more words
_SHOULD_BE = {
    **dict.fromkeys(("int_type", "int_parsing", "int_from_float", "int_parsing_size"), "a whole number"),
    **dict.fromkeys(("float_type", "float_parsing"), "a number"),
    **dict.fromkeys(("bool_type", "bool_parsing"), "true or false"),
    **dict.fromkeys(("list_type", "tuple_type"), "a list"),
    **dict.fromkeys(("dict_type", "model_type", "model_attributes_type"), "a mapping of keys to values"),
    "string_type": "text",
    "finite_number": "a finite number",
    "literal_error": "one of {expected}",
}
_SENTENCES = {
    **{kind: f"{{place}}: {{given}} is not {what}" for kind, what in _SHOULD_BE.items()},
    "greater_than": "{place}: {value} is out of range; it must be greater than {gt:g}",
    "greater_than_equal": "{place}: {value} is out of range; it must be at least {ge:g}",
    "less_than": "{place}: {value} is out of range; it must be less than {lt:g}",
    "less_than_equal": "{place}: {value} is out of range; it must be at most {le:g}",
    "missing": "{place} is missing",
    "string_too_short": "{place} is empty",
    "too_short": "{place} is empty; give at least {min_length}",
    "invalid_key": "{place} is not a key; keys are text",
    "value_error": "{error}",
}


def mistake(message: str) -> Exception:
    """The UserError to raise. Its module imports numpy, which must not slow down `--help`."""
    from groupwise.types import UserError

    return UserError(message)


def nearest(word: str, known: Iterable[str]) -> list[str]:
    """The known names that `word` was probably meant to be: alike in their last part, in the same section if any is."""

    def split(name: str) -> tuple[str, str]:
        section, _, last = name.rpartition(".")
        return section, last

    names = list(dict.fromkeys(known))
    if inside := [name for name in names if name.startswith(f"{word}.")]:  # a section where a key should be
        return inside[:3]
    section, last = split(word)
    near = get_close_matches(last, {split(name)[1] for name in names}, n=1)
    alike = [name for name in names if split(name)[1] in near]
    return [name for name in alike if split(name)[0] == section] or get_close_matches(word, alike, n=3, cutoff=0.0)


def nearest_paths(path: Path, found: Iterable[Path]) -> list[str]:
    """Those found whose names are nearly the path's; endings and folders do not count."""
    names = {other.stem: str(other) for other in sorted(found)}
    return [names[stem] for stem in get_close_matches(path.stem, names)]


def did_you_mean(names: Sequence[str], prefix: str = "") -> str:
    """`; did you mean a or b?`, or nothing."""
    return f"; did you mean {' or '.join(prefix + name for name in names)}?" if names else ""


def explain(errors: Sequence[ErrorDetails], known: Sequence[str], path: Path | None, written: object) -> str:
    """One line for pydantic's errors; `known` are the recipe's dotted keys, `written` is what the file `path` holds."""
    # A misspelt key explains the missing one beside it, so it is told first.
    error = min(errors, key=lambda e: e["type"] != "extra_forbidden")
    place = "".join(
        f"[{part}]" if isinstance(part, int) else f".{part}" for part in error["loc"] if part != "[key]"
    ).lstrip(".")
    if error["type"] == "extra_forbidden":
        return f"unknown key {place}{f' in {path}' if _holds(written, error['loc']) else ''}{_instead(place, known)}"
    value, as_yaml = error["input"], {"None": "null", "True": "true", "False": "false"}
    facts = {
        "place": place,
        "value": value,
        "given": shorten(as_yaml.get(repr(value), repr(value)), 60, placeholder=" ..."),
        "message": error["msg"][:1].lower() + error["msg"][1:],
    }
    sentence = _SENTENCES.get(error["type"], "{place}: {given}: {message}")
    return sentence.format_map({**error.get("ctx", {}), **facts})


def _holds(tree: object, place: Sequence[str | int]) -> bool:
    for part in place:
        if not isinstance(tree, dict | list):
            return False
        branches = tree if isinstance(tree, dict) else dict(enumerate(tree))
        if part not in branches:
            return False
        tree = branches[part]
    return True


def _instead(place: str, known: Sequence[str]) -> str:
    section, _, name = place.rpartition(".")
    if place in known:  # `rollout.group_size: 4` in the file
        return f"; write {name} under {section}, indented"
    pattern = re.sub(r"\[\d+\]", "[]", place)
    sections = dict.fromkeys(key.rpartition(".")[0] for key in known if "." in key)
    hint = did_you_mean(nearest(pattern, [*known, *sections]))
    if not hint:
        prefix = pattern.removesuffix(name)
        siblings = [re.split(r"[.[]", key.removeprefix(prefix))[0] for key in known if key.startswith(prefix)]
        hint = f"; allowed there: {', '.join(dict.fromkeys(siblings))}"
    for index in re.findall(r"\[\d+\]", place):
        hint = hint.replace("[]", index, 1)
    return hint
