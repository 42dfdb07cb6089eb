"""A prompt to reward answers to."""

from groupwise.types import Prompt


def prompt(answer: str | None = None) -> Prompt:
    return Prompt(id="p", task="t", domain="d", text="question", answer=answer)
