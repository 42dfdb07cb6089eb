"""Packed sequences: each once, in order, none sees another, and only completions are learned."""

from __future__ import annotations

from random import Random

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from transformers import BloomConfig, BloomForCausalLM, PreTrainedModel

from groupwise.learner.forward import token_logits
from groupwise.learner.packing import NOT_LEARNED, PackedRows, check_packing, pack
from groupwise.types import UserError

from .cases import VOCABULARY
from .test_forward import gemma2, gpt2

LENGTH = 20
Sequences = list[tuple[list[int], int]]


@st.composite
def sequences(draw: st.DrawFn) -> Sequences:
    tokens = st.lists(st.integers(1, VOCABULARY - 1), min_size=1, max_size=LENGTH)
    return [(ids, draw(st.integers(0, len(ids)))) for ids in draw(st.lists(tokens, max_size=12))]


def parts(rows: PackedRows) -> list[tuple[int, slice]]:
    """Row and place of every packed sequence."""
    found = []
    for row, segments in enumerate(rows.segments):
        for segment in range(1, int(segments.max()) + 1):
            (where,) = (segments == segment).nonzero(as_tuple=True)
            assert where.tolist() == list(range(int(where[0]), int(where[-1]) + 1))
            found.append((row, slice(int(where[0]), int(where[-1]) + 1)))
    return found


def first_fit(sizes: list[int], rows: int) -> list[list[int]]:
    """Which sequences each row holds, by the book: the first row with room, until one fits nowhere."""
    held: list[list[int]] = [[] for _ in range(rows)]
    for index, size in enumerate(sizes):
        open_rows = [row for row in held if sum(sizes[i] for i in row) + size <= LENGTH]
        if not open_rows:
            break
        open_rows[0].append(index)
    return held


@given(sequences(), st.integers(1, 4))
def test_first_fit_takes_in_order_and_nothing_is_lost_or_changed(given_sequences: Sequences, rows: int) -> None:
    packed, taken = pack(given_sequences, rows, LENGTH)
    assert packed.input_ids.shape == packed.position_ids.shape == packed.labels.shape == (rows, LENGTH)
    held = first_fit([len(tokens) for tokens, _ in given_sequences], rows)
    assert taken == sum(map(len, held))
    places = parts(packed)
    assert len(places) == taken
    for (row, place), index in zip(places, [i for indices in held for i in indices], strict=True):
        tokens, _ = given_sequences[index]
        assert index in held[row]
        assert packed.input_ids[row, place].tolist() == tokens
        assert packed.position_ids[row, place].tolist() == list(range(len(tokens)))
    padding = packed.segments == 0
    assert (packed.input_ids[padding] == 0).all()
    assert (packed.position_ids[padding] == 0).all()
    assert (packed.labels[padding] == NOT_LEARNED).all()


@given(sequences())
def test_each_token_of_a_completion_is_learned_once_from_the_one_before_it(given_sequences: Sequences) -> None:
    packed, _ = pack(given_sequences, 3, LENGTH)
    learned = 0
    by_tokens = {tuple(tokens): prompt_length for tokens, prompt_length in given_sequences}
    if len(by_tokens) < len(given_sequences):
        return  # cannot tell equal sequences with different prompts apart
    for row, place in parts(packed):
        tokens = packed.input_ids[row, place].tolist()
        prompt_length = max(1, by_tokens[tuple(tokens)])  # nothing predicts a first token
        expected = [NOT_LEARNED] * (prompt_length - 1) + tokens[prompt_length:] + [NOT_LEARNED]
        assert packed.labels[row, place].tolist() == expected
        learned += len(tokens) - prompt_length
    assert int((packed.labels != NOT_LEARNED).sum()) == learned


def test_a_stream_continues_where_the_packing_stopped() -> None:
    stream: Sequences = [([n] * size, 1) for n, size in enumerate([12, 9, 9, 8, 11, 1, 20], 1)]
    packed, taken = pack(stream, 2, LENGTH)
    assert taken == 4
    assert packed.segments.max(dim=1).values.tolist() == [2, 2]
    packed, taken = pack(stream[taken:], 2, LENGTH)
    assert taken == 3
    assert packed.input_ids[1].tolist() == [7] * 20


def test_too_long_a_sequence_ends_the_packing() -> None:
    packed, taken = pack([([1] * (LENGTH + 1), 1), ([2], 1)], 2, LENGTH)
    assert taken == 0
    assert int(packed.segments.sum()) == 0


def random_sequences(seed: int) -> Sequences:
    rng = Random(seed)
    return [([rng.randrange(1, VOCABULARY) for _ in range(rng.randint(1, 9))], 1) for _ in range(8)]


@pytest.fixture(params=["llama", gemma2, gpt2])
def any_model(request: pytest.FixtureRequest, model: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    return model if isinstance(request.param, str) else request.param()


@torch.no_grad()
def all_logits(model: nn.Module, rows: PackedRows, row: int) -> torch.Tensor:
    at = row * LENGTH + torch.arange(LENGTH)
    return token_logits(model, at, torch.float32, input_ids=rows.input_ids, position_ids=rows.position_ids)


@pytest.mark.parametrize("attention", ["its own", "eager"])
@torch.no_grad()
def test_no_sequence_sees_another(any_model: PreTrainedModel, attention: str) -> None:
    if attention != "its own":
        any_model.set_attn_implementation(attention)
    packed, taken = pack(random_sequences(0), 3, LENGTH)
    assert taken == 8
    for row, place in parts(packed):
        alone = any_model(input_ids=packed.input_ids[row, place][None]).logits[0]
        torch.testing.assert_close(all_logits(any_model, packed, row)[place], alone, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_padding_gives_no_nan_and_no_gradient(model: PreTrainedModel, attention: str) -> None:
    model.set_attn_implementation(attention)
    packed, _ = pack([([5, 6, 7], 1)], 2, LENGTH)  # the second row is all padding
    for row in range(2):
        assert all_logits(model, packed, row).isfinite().all()
    where = (packed.labels.flatten() != NOT_LEARNED).nonzero()[:, 0]
    inputs = {"input_ids": packed.input_ids, "position_ids": packed.position_ids}
    token_logits(model, where, torch.float32, **inputs).square().sum().backward()
    packed_gradient = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
    assert packed_gradient.isfinite().all()
    model.zero_grad()
    model(input_ids=torch.tensor([[5, 6, 7]])).logits[:, :2].square().sum().backward()
    alone = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
    assert (packed_gradient - alone).norm() < 1e-5 * alone.norm()


def test_models_that_keep_sequences_apart_pass(any_model: nn.Module) -> None:
    check_packing(any_model)


def test_a_model_that_does_not_is_refused() -> None:
    torch.manual_seed(0)
    model = BloomForCausalLM(BloomConfig(vocab_size=VOCABULARY, hidden_size=16, n_layer=2, n_head=2))
    with pytest.raises(UserError, match="BloomForCausalLM does not keep packed sequences apart"):
        check_packing(model)
