"""Prompts become the token ids of the chat template, or of the raw text."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from groupwise.rollout.encode import encode, end_token_ids
from groupwise.rollout.local import LocalEngine
from groupwise.types import Prompt, Sampling, UserError

from .cases import EOS, tiny, tokens, word_tokenizer

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


ROLES = (
    "<bos>{% for m in messages %} {{ {'system': 'w10', 'user': 'w11', 'assistant': 'w12'}[m['role']] }}"
    " {{ m['content'] }}{% if m['role'] == 'assistant' %} <eos>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %} w12{% endif %}"
)
SYSTEM, USER, BEGUN = (
    {"role": role, "content": content} for role, content in (("system", "w7"), ("user", "w8"), ("assistant", "w9"))
)


def conversation(*messages: dict[str, str]) -> Prompt:
    return Prompt(id="p", task="t", domain="d", text="w8", messages=messages)


def test_messages_go_through_the_template() -> None:
    tokenizer = word_tokenizer(template=ROLES)
    (encoded,) = encode([conversation(SYSTEM, USER)], tokenizer)
    assert encoded.token_ids == (1, 10, 7, 11, 8, 12)
    assert encode([conversation(USER)], tokenizer)[0].token_ids == encode([prompt("w8")], tokenizer)[0].token_ids
    longer = conversation(USER, BEGUN, USER)
    assert encode([longer], tokenizer)[0].token_ids == (1, 11, 8, 12, 9, EOS, 11, 8, 12)


def test_what_the_assistant_began_is_continued() -> None:
    (encoded,) = encode([conversation(USER, BEGUN)], word_tokenizer(template=ROLES))
    assert encoded.token_ids == (1, 11, 8, 12, 9)


def test_raw_text_past_the_template() -> None:
    raw = Prompt(id="p", task="t", domain="d", text="w7 w8", chat=False)
    assert encode([raw], word_tokenizer(template=ROLES))[0].token_ids == (7, 8)


def test_messages_without_a_template() -> None:
    with pytest.raises(UserError, match="task t: its prompts are chat messages, and the model's tokenizer has no chat"):
        encode([prompt("w7"), conversation(USER)], word_tokenizer())


def test_a_template_that_refuses() -> None:
    template = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system\\nmessages') }}{% endif %}w7"
    with pytest.raises(UserError, match="task t: the model's chat template refuses a prompt: no system messages"):
        encode([conversation(SYSTEM, USER)], word_tokenizer(template=template))


def test_a_tokenizer_without_a_pad_token_generates_the_same() -> None:
    """Prompts of different lengths, in one batch."""
    found = []
    for special in ({}, {"pad_token": ""}):
        tokenizer = word_tokenizer(template=ROLES, **special)
        texts = [prompt("w7"), prompt("w8 w9 w10 w11"), conversation(SYSTEM, USER)]
        prompts = encode(texts, tokenizer)
        found.append(
            tokens(LocalEngine(tiny("llama"), tokenizer).generate(prompts, range(3), Sampling(max_tokens=6, seed=1)))
        )
    assert tokenizer.pad_token_id is None
    assert found[0] == found[1]


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
