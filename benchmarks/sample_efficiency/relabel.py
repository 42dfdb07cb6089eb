"""groupwise with other domains: `python relabel.py KIND train ...`, the ablations of what the groups are made of.

tasks    a prompt's domain is its task's name
random   a prompt's domain is one of as many as the demo has, by a hash of the prompt: groups that mean nothing
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace

DOMAINS = 6  # as many as the tasks of the demo have
KINDS: dict[str, Callable[[str, str], str]] = {
    "tasks": lambda task, _: task,
    "random": lambda _, prompt: f"random-{int(prompt[8:], 16) % DOMAINS}",
}


def main() -> int:
    from groupwise import cli
    from groupwise.tasks.gym import GymStream
    from groupwise.types import Prompt

    domain, drawn = KINDS[sys.argv[1]], GymStream.__next__

    def relabelled(stream: GymStream) -> Prompt:
        prompt = drawn(stream)
        return replace(prompt, domain=domain(prompt.task, prompt.id))

    GymStream.__next__ = relabelled  # type: ignore[method-assign]
    return cli.main(sys.argv[2:])


if __name__ == "__main__":
    sys.exit(main())
