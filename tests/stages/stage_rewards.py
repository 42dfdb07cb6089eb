"""Rewards for runs whose random model earns nothing on real tasks. Workers import this module by name."""

import time
import zlib
from pathlib import Path

from groupwise.types import Prompt


def digits(prompt: Prompt, completion: str) -> float:
    """Share of digits: something a random model can learn."""
    return sum(c.isdigit() for c in completion) / max(1, len(completion))


def has_a_nine(prompt: Prompt, completion: str) -> float:
    """1 where there is a 9: few, so that many groups have no variance."""
    return float("9" in completion)


def chance(prompt: Prompt, completion: str) -> int:
    """A number from 0 to 99 that belongs to this completion."""
    return zlib.crc32(f"{prompt.id}\n{completion}".encode()) % 100


def hangs(prompt: Prompt, completion: str) -> float:
    """One in fifty never comes back."""
    while chance(prompt, completion) < 2:
        time.sleep(1)
    return digits(prompt, completion)


def raises(prompt: Prompt, completion: str) -> float:
    if chance(prompt, completion) < 20:
        raise KeyError("no\nnumber")
    return digits(prompt, completion)


def not_a_number(prompt: Prompt, completion: str) -> float:
    return float("nan") if chance(prompt, completion) < 20 else digits(prompt, completion)


def unsure(prompt: Prompt, completion: str) -> float | None:
    return None if chance(prompt, completion) < 20 else 1.0


def constant(prompt: Prompt, completion: str) -> float:
    return 0.5


def fails(prompt: Prompt, completion: str) -> float:
    raise ValueError("no digits")


def fails_while_told(prompt: Prompt, completion: str) -> float:
    """Fails as long as there is a file `broken` in the working directory."""
    if Path("broken").exists():
        raise ConnectionError("the judge is down")
    return digits(prompt, completion)
