"""Tasks of a made-up run: how their questions look and how well they are answered before and after."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

NEVER_LEARNED = "syllogism"
FORGOTTEN = "number_sequence"


@dataclass(frozen=True)
class Family:
    """A task: its domain, held-out accuracy before and after, and how a question and its steps look."""

    name: str
    domain: str
    before: float
    after: float
    ask: Callable[[np.random.Generator], tuple[str, str, list[str]]]


def _sum(rng: np.random.Generator) -> tuple[str, str, list[str]]:
    a, b, c = (int(x) for x in rng.integers(2, 99, 3))
    return (
        f"State the final answer to the following arithmetic problem: {a} + {b} - {c} =",
        str(a + b - c),
        [f"{a} + {b} = {a + b}", f"{a + b} - {c} = {a + b - c}"],
    )


def _product(rng: np.random.Generator) -> tuple[str, str, list[str]]:
    a, b = (int(x) for x in rng.integers(3, 99, 2))
    tens, ones = b // 10 * 10, b % 10
    return (
        f"Solve the following multiplication: {a} * {b}. Give only the result as your final answer.",
        str(a * b),
        [
            f"{a} * {tens} = {a * tens}",
            f"{a} * {ones} = {a * ones}",
            f"{a * tens} + {a * ones} = {a * b}",
        ],
    )


def _gcd(rng: np.random.Generator) -> tuple[str, str, list[str]]:
    a, b = (int(x) for x in rng.integers(4, 99, 2))
    x, y, steps = a, b, []
    while y:
        steps.append(f"{x} mod {y} = {x % y}")
        x, y = y, x % y
    return (f"Find the Greatest Common Divisor (GCD) of these numbers: {a}, {b}.", str(x), steps)


def _spell(rng: np.random.Generator) -> tuple[str, str, list[str]]:
    word = str(rng.choice(["sun", "ammonia", "ladder", "grouped", "reward", "policy"]))
    return (f"Spell this word backward (example: sun -> nus): {word}", word[::-1], [" ".join(reversed(word))])


def _filter(rng: np.random.Generator) -> tuple[str, str, list[str]]:
    numbers, limit = [int(x) for x in rng.integers(-90, 90, 5)], int(rng.integers(-40, 40))
    kept = [str(x) for x in numbers if x < limit]
    question = f"Keep all numbers smaller than {limit} in this list: {[str(x) for x in numbers]}\nReturn the new list."
    return (question, str(kept), [f"{x} < {limit}: {'keep' if x < limit else 'no'}" for x in numbers])


FAMILIES = (
    Family("chain_sum", "arithmetic", 0.55, 0.93, _sum),
    Family("products", "arithmetic", 0.08, 0.41, _product),
    Family("gcd", "arithmetic", 0.34, 0.71, _gcd),
    Family("spell_backward", "algorithmic", 0.22, 0.78, _spell),
    Family("number_filtering", "algorithmic", 0.46, 0.88, _filter),
    Family(NEVER_LEARNED, "logic", 0.50, 0.512, _spell),
    Family(FORGOTTEN, "cognition", 0.31, 0.20, _sum),
    Family("base_conversion", "algorithmic", 0.05, 0.19, _product),
)
