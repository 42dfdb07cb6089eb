"""Prompts become the token ids of the chat template, or of the raw text."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from groupwise.rollout.encode import encode, end_token_ids
from groupwise.types import Prompt, UserError

from .cases import EOS, word_tokenizer

TEMPLATE = "<bos>{% for m in messages %} w4 {{ m['content'] }}{% endfor %}{% if add_generation_prompt %} w5{% endif %}"


def prompt(text: str) -> Prompt:
    return Prompt(id="p", task="t", domain="d", text=text)


def test_the_template_surrounds_the_text() -> None:
    (encoded,) = encode([prompt("w7 w8")], word_tokenizer(template=TEMPLATE))
    assert encoded == Prompt(id="p", task="t", domain="d", text="w7 w8", token_ids=(1, 4, 7, 8, 5))


def test_without_a_template_the_raw_text() -> None:
    assert encode([prompt("w7 w8")], word_tokenizer())[0].token_ids == (7, 8)


def test_without_a_template_bos_is_the_tokenizers_wish_and_eos_is_not_ours() -> None:
    tokenizer = word_tokenizer(adds_bos=True)
    assert tokenizer("w7 w8")["input_ids"] == [1, 7, 8, EOS]
    assert encode([prompt("w7 w8")], tokenizer)[0].token_ids == (1, 7, 8)


def test_nothing_to_encode() -> None:
    assert encode([], word_tokenizer()) == []


@pytest.mark.parametrize(
    ("configured", "expected"), [(None, (EOS,)), (EOS, (EOS,)), (9, (EOS, 9)), ([7, EOS, 5], (EOS, 5, 7))]
)
def test_end_tokens_are_the_models_and_the_tokenizers(configured: Any, expected: tuple[int, ...]) -> None:
    model = SimpleNamespace(generation_config=SimpleNamespace(eos_token_id=configured))
    assert end_token_ids(model, word_tokenizer()) == expected


def test_a_model_without_a_generation_config() -> None:
    assert end_token_ids(SimpleNamespace(), word_tokenizer()) == (EOS,)


def test_no_end_token_at_all() -> None:
    with pytest.raises(UserError, match="eos_token"):
        end_token_ids(SimpleNamespace(), word_tokenizer(eos_token="", pad_token=""))
