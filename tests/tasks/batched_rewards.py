"""Batched and asynchronous rewards, good and bad. Workers import this module by name, without pytest."""

import asyncio
import os
import time
from typing import Any

from bad_rewards import does

from groupwise.types import Prompt


def lengths(completions: list[str], **columns: Any) -> list[float]:
    """Do what completions say, one after the other; else return their lengths."""
    return [does(None, completion) for completion in completions]  # type: ignore[arg-type]


async def async_lengths(completions: list[str], **columns: Any) -> list[float]:
    return [await async_does(None, completion) for completion in completions]  # type: ignore[arg-type]


async def async_does(prompt: Prompt, completion: str) -> Any:
    """Do what the completion says, awaiting; else return its length."""
    match completion.partition(" ")[0]:
        case "wait":
            await asyncio.sleep(3600)
        case "stubborn":  # does not let itself be cancelled
            for _ in range(1000):
                try:
                    await asyncio.sleep(3600)
                except asyncio.CancelledError:
                    continue
        case "nap":  # keeps the others from their turn for longer than their deadline
            time.sleep(0.6)
        case "exit":
            os._exit(3)
        case "brief":
            await asyncio.sleep(0.1)
    return does(prompt, completion)


def ranks(completions: list[str], **columns: Any) -> list[float]:
    """A reward that compares: how many completions are shorter, of all that it sees."""
    return [float(sum(len(other) < len(completion) for other in completions)) for completion in completions]


def seven(prompts: list[str], completions: list[str], **columns: Any) -> list[float]:
    return [1.0] * 7


def one_value(completions: list[str], **columns: Any) -> list[float]:
    return [1.0]


def without_blanks(completions: list[str], **columns: Any) -> list[float]:
    return [1.0 for completion in completions if completion]


def mean(completions: list[str], **columns: Any) -> float:
    return 1.0


def needs_solution(completions: list[str], solution: list[str]) -> list[float]:
    return [float(c == s) for c, s in zip(completions, solution, strict=True)]
