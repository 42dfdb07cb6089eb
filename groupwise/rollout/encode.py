"""From what a prompt says to the token ids that the policy reads, and the ids that end its answer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from groupwise.types import Prompt, UserError


def encode(prompts: Iterable[Prompt], tokenizer: Any) -> list[Prompt]:
    """The same prompts with `token_ids` filled, by the tokenizer's chat template or as raw text.

    Messages go through the template, and where the last is the assistant's the policy continues it. Text alone is the
    user's turn, or raw text for a prompt that is no `chat` and for a tokenizer without a template. Raises UserError for
    messages where there is no template.
    """
    return [replace(prompt, token_ids=_ids(prompt, tokenizer)) for prompt in prompts]


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


def _ids(prompt: Prompt, tokenizer: Any) -> tuple[int, ...]:
    template = getattr(tokenizer, "chat_template", None)
    if prompt.messages and not template:
        raise UserError(
            f"task {prompt.task}: its prompts are chat messages, and the model's tokenizer has no chat template; take "
            "another model, or data whose prompt is text, without data.system and with `chat: false`"
        )
    if template and (prompt.messages or prompt.chat):
        return _with_template(prompt.messages or ({"role": "user", "content": prompt.text},), prompt.task, tokenizer)
    return _without_template(prompt.text, tokenizer)


def _with_template(messages: Sequence[Mapping[str, str]], task: str, tokenizer: Any) -> tuple[int, ...]:
    from jinja2 import TemplateError

    begun = messages[-1]["role"] == "assistant"
    try:
        # return_dict is named because its default changed in transformers 5
        encoded = tokenizer.apply_chat_template(
            list(messages),
            add_generation_prompt=not begun,
            continue_final_message=begun,
            tokenize=True,
            return_dict=True,
        )
    except (TemplateError, ValueError) as error:  # some templates know no system message, or want turns to alternate
        raise UserError(
            f"task {task}: the model's chat template refuses a prompt: {' '.join(str(error).split())}"
        ) from None
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
