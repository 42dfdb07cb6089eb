"""Stop strings are found at the token that completes them, as if the whole text were decoded at every token."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from groupwise.rollout.stopping import StopStrings

from .cases import word_tokenizer

PIECES = ["a", "b", "ab", "ba", " ", " a", "\n", "\n\n", "é", "🙂", "b\n", "."]


def byte_tokenizer() -> Any:
    """Every byte is a token, and so are some short strings; the last is special."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    spelled = [level.pre_tokenize_str(piece)[0][0] for piece in PIECES]
    vocabulary = {piece: i for i, piece in enumerate(dict.fromkeys(alphabet + spelled))}
    tokenizer = Tokenizer(models.BPE(vocabulary, []))
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<end>", pad_token="<end>")


BYTES = byte_tokenizer()
WORDS = word_tokenizer()
PIECE_IDS = sorted({i for piece in PIECES for i in BYTES(piece)["input_ids"]} | set(range(256, len(BYTES))))


def first_completed(stops: StopStrings, ids: list[int]) -> int | None:
    """The number of tokens after which the engine would stop."""
    for n in range(1, len(ids) + 1):
        if stops.may_complete(ids[n - 1]) and stops.completed(ids[:n]):
            return n
    return None


def first_in_full_text(stops: StopStrings, ids: list[int]) -> int | None:
    for n in range(1, len(ids) + 1):
        if any(s in stops.decode(ids[:n]) for s in stops.strings):
            return n
    return None


@given(
    ids=st.lists(st.sampled_from(PIECE_IDS), max_size=12),
    strings=st.lists(st.sampled_from(["ab", "\n\n", "🙂", "é.", " ", "a b", "b\na", "bab"]), min_size=1, max_size=2),
)
def test_bytes(ids: list[int], strings: list[str]) -> None:
    stops = StopStrings(strings, BYTES)
    assert first_completed(stops, ids) == first_in_full_text(stops, ids)


def test_any_number_of_special_tokens_inside() -> None:
    a, b, end = BYTES("a")["input_ids"], BYTES("b")["input_ids"], len(BYTES) - 1
    assert [first_completed(StopStrings(["ab"], BYTES), [*a, *[end] * n, *b]) for n in (0, 4, 5, 40)] == [2, 6, 7, 42]


@given(
    ids=st.lists(st.integers(0, 8), max_size=14),
    strings=st.lists(st.sampled_from(["w4", "w5 w6", "w7 ", " ", "4 w4 w"]), min_size=1, max_size=2),
)
def test_words(ids: list[int], strings: list[str]) -> None:
    stops = StopStrings(strings, WORDS)
    found, expected = first_completed(stops, ids), first_in_full_text(stops, ids)
    assert found == expected


@pytest.mark.parametrize(
    ("text", "cut"), [("one two", "one two"), ("one. two", "one"), ("one\n\n.", "one"), (".", ""), ("", "")]
)
def test_the_text_before_the_first(text: str, cut: str) -> None:
    assert StopStrings([".", "\n\n"], BYTES).cut(text) == cut


def test_an_empty_stop_string_stops_nothing() -> None:
    assert StopStrings(["", "x"], BYTES).strings == ("x",)
