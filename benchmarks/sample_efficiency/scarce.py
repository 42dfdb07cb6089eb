"""Tasks whose rewards are rare at the start: harder parameters of the demo's families, found by measuring seedling."""

from __future__ import annotations

import json
from typing import Any

from sample_efficiency.places import DEMO, RUNS, start

LEAST, MOST = 0.01, 0.05  # pass@1 before the first update


def _complex(largest: int) -> dict[str, Any]:
    ends = {"min_real": -largest, "max_real": largest, "min_imag": -largest, "max_imag": largest}
    return {**ends, "operations_weights": [0.5, 0.5, 0, 0]}


# The first of each family is the mix `scarce`: rare at the start, but near enough to the demo's tasks to be learned
# from a few thousand rollouts. The others were measured on the way.
CANDIDATES: dict[str, list[dict[str, Any]]] = {
    "chain_sum": [
        {"min_digits": 1, "max_digits": 2, "min_terms": 6, "max_terms": 6},
        {"min_digits": 1, "max_digits": 2, "min_terms": 5, "max_terms": 5},
        {"min_digits": 2, "max_digits": 2, "min_terms": 4, "max_terms": 5},
    ],
    "simple_equations": [
        {"min_terms": 2, "max_terms": 2, "min_value": 15, "max_value": 50},
        {"min_terms": 3, "max_terms": 3, "min_value": 10, "max_value": 40},
    ],
    "complex_arithmetic": [_complex(90), _complex(75)],
    "base_conversion": [
        {"min_base": 3, "max_base": 9, "min_value": 60, "max_value": 220},
        {"min_base": 3, "max_base": 9, "min_value": 80, "max_value": 240},
    ],
    "simple_geometry": [
        {"min_sides": 5, "max_sides": 8},
        {"min_sides": 5, "max_sides": 7},
        {"min_sides": 6, "max_sides": 7},
    ],
}


def scarce_tasks() -> list[dict[str, Any]]:
    """The mix, as a recipe's `tasks`."""
    return [{"name": family, "params": several[0]} for family, several in CANDIDATES.items()]


def find_scarce(prompts: int) -> None:
    """Measure all candidates on held-out prompts, and say which of them are scarce."""
    tasks = [
        {"name": f"{family}-{number}", "family": family, "params": params}
        for family, several in CANDIDATES.items()
        for number, params in enumerate(several)
    ]
    log = RUNS / "find-scarce.log"
    words = ["eval", "seedling", "--json", f"--recipe={DEMO}", f"--prompts={prompts}", f"--tasks={json.dumps(tasks)}"]
    if start([*words, "--threads=1"], log).wait():
        raise SystemExit(f"groupwise eval failed: {log.read_text()[-2000:]}")
    text = log.read_text()
    rates = json.loads(text[text.index("\n{") :] if not text.startswith("{") else text)["by_task"]
    for task in tasks:
        rate = rates[task["name"]]
        verdict = "scarce" if LEAST <= rate <= MOST else ""
        print(f"{task['name']:22} {rate:6.1%} {verdict:7} {json.dumps(task['params'])}")
