"""From a prompt's text to the token ids that the policy reads, and the ids that end its answer."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from groupwise.types import Prompt, UserError


def encode(prompts: Iterable[Prompt], tokenizer: Any) -> list[Prompt]:
    """The same prompts with `token_ids` filled: a user turn in the chat template, or raw text where there is none."""
    as_ids = _with_template if getattr(tokenizer, "chat_template", None) else _without_template
    return [replace(prompt, token_ids=as_ids(prompt.text, tokenizer)) for prompt in prompts]


def end_token_ids(model: Any, tokenizer: Any) -> tuple[int, ...]:
    """The ids after which a completion is over, ascending: the tokenizer's and all of the model's generation config."""
    configured = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    found = {*_as_ids(configured), *_as_ids(getattr(tokenizer, "eos_token_id", None))}
    if not found:
        raise UserError(
            "the tokenizer has no eos_token and the model's generation config no eos_token_id: completions could never "
            "end; set one of them"
        )
    return tuple(sorted(found))


def _with_template(text: str, tokenizer: Any) -> tuple[int, ...]:
    turn = [{"role": "user", "content": text}]
    # return_dict is named because its default changed in transformers 5
    encoded = tokenizer.apply_chat_template(turn, add_generation_prompt=True, tokenize=True, return_dict=True)
    return tuple(encoded["input_ids"])


def _without_template(text: str, tokenizer: Any) -> tuple[int, ...]:
    """The text's ids behind the bos that the tokenizer would add; an eos that it would add has no place in a prompt."""
    plain: Sequence[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    special: Sequence[int] = tokenizer(text)["input_ids"]
    bos: int | None = getattr(tokenizer, "bos_token_id", None)
    if bos is not None and len(special) > len(plain) and special[0] == bos:
        return (bos, *plain)
    return tuple(plain)


def _as_ids(ids: int | Sequence[int] | None) -> Sequence[int]:
    if ids is None:
        return ()
    return (ids,) if isinstance(ids, int) else ids
