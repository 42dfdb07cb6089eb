"""The map: the prompts of late by their embeddings, so that alike ones lie close together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from typing import Any

from groupwise.report import words
from groupwise.report.projection import Asked, principal_axes, recent_prompts
from groupwise.report.reading import Run
from groupwise.report.sections.base import Section
from groupwise.report.tree import GIVEN, walk

FEWEST = 3  # prompts; two make no map
COLOURED = 10  # groups, the largest
LONGEST_TEXT = 180

Called = tuple[str, str]  # a group's label, and the number that tells it from others of that label


def build(run: Run) -> Section | None:
    found = recent_prompts(run.rollout_files)
    asked = [prompt for prompt in found if len(prompt.embedding) == len(found[0].embedding)]
    if len(asked) < FEWEST or not len(asked[0].embedding):
        return None
    positions, share = principal_axes([prompt.embedding for prompt in asked])
    level, keys, called = grouped(run, asked)
    sizes = Counter(key for key in keys if key is not None).most_common()
    places = {key: place for place, (key, _) in enumerate(sizes[:COLOURED])}
    points: list[dict[str, Any]] = [
        {
            "x": _short(x),
            "y": _short(y),
            "place": places.get(key, COLOURED),
            "group": " ".join((level, called[key][1] or called[key][0])) if key in called else "",
            "reward": _short(sum(prompt.rewards) / len(prompt.rewards)) if prompt.rewards else None,
            "rollouts": len(prompt.rewards),
            "task": prompt.task,
            "step": prompt.step,
            "text": _start(prompt.text),
        }
        for (x, y), key, prompt in zip(positions, keys, asked, strict=True)
    ]
    rewards = [point["reward"] for point in points if point["reward"] is not None]
    steps = [prompt.step for prompt in asked]
    others = len(asked) - sum(size for _, size in sizes[:COLOURED])
    context = {
        "prompts": len(asked),
        "steps": (min(steps), max(steps)),
        "share": share,
        "level": level,
        "legend": [(*called[key], size) for key, size in sizes[:COLOURED]],
        "others": (others, max(0, len(sizes) - COLOURED)),
        "ends": (words.number(min(rewards)), words.number(max(rewards))) if rewards else None,
    }
    return Section(
        id="prompts",
        title="Map of the prompts",
        context=context,
        data={"points": points, "ends": [min(rewards), max(rewards)] if rewards else None},
        scripts=("vendor/echarts.common.min.js", "prompts.js"),
    )


def grouped(run: Run, asked: Sequence[Asked]) -> tuple[str, list[Hashable], dict[Hashable, Called]]:
    """The level that is coloured, the group of each prompt there (None: in none), and what the groups are called.

    The finest level above the prompt; where there is none, the domain.
    """
    names = list(run.tree.last.get("names", []))
    level = names[-2] if len(names) > 1 else "domain"
    if level in GIVEN:
        given = [prompt.domain if level == "domain" else prompt.task for prompt in asked]
        return level, list(given), {name: (name, "") for name in given}
    labels = {node.key[1]: node.label for node in walk(run.tree.roots) if node.key[0] == level}
    keys = [prompt.path[-2] if len(prompt.path) == len(names) else None for prompt in asked]
    return level, list(keys), {key: (labels.get(key, ""), f"#{key}") for key in keys if key is not None}


def _start(text: str) -> str:
    """On one line, and cut."""
    line = " ".join(text.split())
    return line if len(line) <= LONGEST_TEXT else f"{line[:LONGEST_TEXT]} \u2026"


def _short(value: Any) -> float:
    return float(f"{value:.4g}")
