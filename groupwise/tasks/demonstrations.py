"""Worked solutions for reasoning-gym families, in four styles of falling care.

Reinforcement learning needs something to choose between: a model shown only direct answers has no better habit to
discover. So every question can be answered `careful` (each step on its own line), `hasty` (some steps left out),
`shortcut` (the answer alone) or `slip` (an answer alone that misses, as careless answers do). Steps are equations,
comparisons or mirrored spellings that `groupwise.tasks.steps` can check.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from random import Random
from typing import Any

from groupwise.types import Prompt

STYLES = ("careful", "hasty", "shortcut", "slip")


def demonstrate(prompt: Prompt, family: str, style: str, rng: Random) -> str:
    """A completion of `prompt` in the given style; KeyError for a family that has no worked solutions."""
    if style == "slip":
        return f"<answer>{slip(str(prompt.answer), rng)}</answer>"
    steps = WORKED[family](prompt.text, str(prompt.answer), prompt.metadata)
    if style == "hasty":
        steps = [step for step in steps if rng.random() < 0.5]
    if style == "shortcut" or not steps:
        return f"<answer>{prompt.answer}</answer>"
    return "<think>\n" + "\n".join(steps) + f"\n</think>\n<answer>{prompt.answer}</answer>"


def slip(answer: str, rng: Random) -> str:
    """A near miss: the other of Yes and No, one digit changed, or two unlike neighbouring characters exchanged."""
    if answer in ("Yes", "No"):
        return "No" if answer == "Yes" else "Yes"
    digits = [i for i, c in enumerate(answer) if c.isdigit()]
    if digits:
        at = rng.choice(digits)
        other = rng.choice([d for d in "0123456789" if d != answer[at]])
        return answer[:at] + other + answer[at + 1 :]
    unlike = [i for i in range(len(answer) - 1) if answer[i] != answer[i + 1]]
    if not unlike:
        return answer + answer[-1:]
    at = rng.choice(unlike)
    return answer[:at] + answer[at : at + 2][::-1] + answer[at + 2 :]


def _chain_sum(text: str, answer: str, meta: Mapping[str, Any]) -> list[str]:
    tokens = str(meta["expression"]).split()
    total, steps = int(tokens[0]), []
    for sign, number in zip(tokens[1::2], tokens[2::2], strict=True):
        after = total + int(number) if sign == "+" else total - int(number)
        steps.append(f"{total}{sign}{number}={after}")
        total = after
    return steps


def _products(text: str, answer: str, meta: Mapping[str, Any]) -> list[str]:
    a, b = (int(x) for x in str(meta["expression"]).split(" * "))
    tens, ones = b // 10 * 10, b % 10
    if not tens or not ones or a < 10:
        return [f"{a}*{b}={a * b}"]
    return [f"{a}*{tens}={a * tens}", f"{a}*{ones}={a * ones}", f"{a * tens}+{a * ones}={a * b}"]


def _gcd(text: str, answer: str, meta: Mapping[str, Any]) -> list[str]:
    a, b = sorted(meta["numbers"], reverse=True)
    steps = []
    while b:
        steps.append(f"{a}={b}*{a // b}+{a % b}")
        a, b = b, a % b
    return steps


def _leg_counting(text: str, answer: str, meta: Mapping[str, Any]) -> list[str]:
    from reasoning_gym.arithmetic.leg_counting import ANIMALS

    steps, total = [], None
    for animal, count in meta["animals"].items():
        legs = count * ANIMALS[animal]
        steps.append(f"{count}*{ANIMALS[animal]}={legs}")
        if total is not None:
            steps.append(f"{total}+{legs}={total + legs}")
        total = legs if total is None else total + legs
    return steps


def _simple_equations(text: str, answer: str, meta: Mapping[str, Any]) -> list[str]:
    left, right = str(meta["equation"]).split(" = ")
    offset, slope = _line(left, str(meta["variable"]))
    rest = int(right) - offset
    steps = [f"{right}{-offset:+d}={rest}"] if offset else []
    return [*steps, f"{rest}/{slope}={answer}"]


def _line(expression: str, variable: str) -> tuple[int, int]:
    """Offset and slope of a linear expression such as `9 - 15*e`."""
    offset = slope = 0
    for sign, term in re.findall(r"([+-]?)\s*([0-9a-z*]+)", expression):
        factor = -1 if sign == "-" else 1
        value = 1
        for part in term.split("*"):
            value *= 1 if part == variable else int(part)
        if variable in term:
            slope += factor * value
        else:
            offset += factor * value
    return offset, slope


def _complex_arithmetic(text: str, answer: str, meta: Mapping[str, Any]) -> list[str]:
    (a, b), (c, d) = meta["num1"], meta["num2"]
    sign = 1 if meta["operation"] == "+" else -1
    pairs = ((int(a), sign * int(c)), (int(b), sign * int(d)))
    return [f"{x}{y:+d}={x + y}" for x, y in pairs]


def _number_filtering(text: str, answer: str, meta: Mapping[str, Any]) -> list[str]:
    limit = int(meta["filter_value"])
    return [f"{n}{'<' if int(n) < limit else '>' if int(n) > limit else '='}{limit}" for n in meta["original_numbers"]]


def _base_conversion(text: str, answer: str, meta: Mapping[str, Any]) -> list[str]:
    base, target, digits = meta["source_base"], meta["target_base"], str(meta["source_repr"])
    value, steps = int(digits[0], base), []
    for digit in digits[1:]:
        after = value * base + int(digit, base)
        steps.append(f"{value}*{base}+{int(digit, base)}={after}")
        value = after
    while value:
        steps.append(f"{value}={target}*{value // target}+{value % target}")
        value //= target
    return steps


def _spell_backward(text: str, answer: str, meta: Mapping[str, Any]) -> list[str]:
    word = str(meta["word"])
    return ["-".join(word), "-".join(reversed(word))]


def _simple_geometry(text: str, answer: str, meta: Mapping[str, Any]) -> list[str]:
    whole = int(meta["total_interior_sum"])
    steps = [f"180*{int(meta['n_sides']) - 2}={whole}"]
    for angle in meta["known_angles"]:
        steps.append(f"{whole}-{int(angle)}={whole - int(angle)}")
        whole -= int(angle)
    return steps


def _syllogism(text: str, answer: str, meta: Mapping[str, Any]) -> list[str]:
    letters: dict[str, str] = {}
    return [_pattern(str(meta[key]), letters) for key in ("premise1", "premise2", "conclusion")]


def _pattern(statement: str, letters: dict[str, str]) -> str:
    """`Some teachers are not parents` -> `Some A not B`: nouns become letters in the order they appear."""
    quantity, subject, negation, noun = re.match(r"(\w+) (.+?) are (not )?(.+)", statement).groups()  # type: ignore[union-attr]
    a, b = (letters.setdefault(x, "ABC"[len(letters) % 3]) for x in (subject, noun))
    return f"{quantity} {a} {'not ' if negation else ''}{b}"


def _number_sequence(text: str, answer: str, meta: Mapping[str, Any]) -> list[str]:
    """The rule, tried on the last given pair and then applied to the last term."""
    terms = list(meta["sequence"])[:-1]
    return [*_apply(meta["rule"], terms, len(terms) - 2), *_apply(meta["rule"], terms, len(terms) - 1)]


def _apply(rule: str, terms: list[int], position: int) -> list[str]:
    value, steps = terms[position], []
    for part in filter(None, rule.split(" then ")):
        word, *rest = part.split()
        number = int(rest[-1]) if rest and rest[-1].lstrip("-").isdigit() else 0
        if part == "add previous":
            if position == 0:
                continue
            sign, number = "+", terms[position - 1]
        else:
            sign, number = {
                "add": ("+", number), "multiply": ("*", number), "double": ("*", 2), "halve": ("//", 2),
                "square": ("*", value),
            }[word]  # fmt: skip
        after = {"+": value + number, "*": value * number, "//": value // 2}[sign]
        steps.append(f"{value}{number:+d}={after}" if sign == "+" else f"{value}{sign}{number}={after}")
        value = after
    return steps


WORKED: dict[str, Callable[[str, str, Mapping[str, Any]], list[str]]] = {
    "chain_sum": _chain_sum,
    "products": _products,
    "gcd": _gcd,
    "leg_counting": _leg_counting,
    "simple_equations": _simple_equations,
    "complex_arithmetic": _complex_arithmetic,
    "number_filtering": _number_filtering,
    "base_conversion": _base_conversion,
    "spell_backward": _spell_backward,
    "simple_geometry": _simple_geometry,
    "syllogism": _syllogism,
    "number_sequence": _number_sequence,
}
