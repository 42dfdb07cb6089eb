"""Rows that share their prompts, leave and join say what each would say alone."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch

from groupwise.rollout.grouped import GroupedDecoder
from groupwise.types import Prompt, Sampling

from .cases import CONFIGS, GROUPED, check_end, engine, forced, prompt_of, some_prompts, tokens

SOME = some_prompts(copies=(5, 1, 3))
FEW = some_prompts(8, copies=(2, 1, 1))  # so few completions a prompt that each caches its own
KEYS = list(range(100, 100 + len(SOME)))
ENDS = (2, 11, 17, 23, 31)  # completions of all lengths
MANY = some_prompts(27, copies=(5, 1, 3))
JOINING = {"max_batch_rows": 16}  # MANY are 81 rows


@pytest.mark.parametrize(
    ("grouped", "prompts"), [(True, SOME), (True, FEW), (False, SOME)], ids=["shared", "alone", "plain"]
)
@pytest.mark.parametrize("kind", CONFIGS)
def test_log_probs_are_those_of_a_plain_forward_pass(kind: str, grouped: bool, prompts: list[Prompt]) -> None:
    local = engine(kind, ends=ENDS, grouped=grouped)
    completions = local.generate(prompts, KEYS[: len(prompts)], Sampling(max_tokens=40, temperature=0.7))
    assert len({len(c.token_ids) for c in completions}) > 4  # rows left the batch at different times
    assert local._grouped == (grouped and kind in GROUPED)
    for prompt, completion in zip(prompts, completions, strict=True):
        expected = forced(local.model, prompt, completion, temperature=0.7)
        torch.testing.assert_close(torch.tensor(completion.logprobs), expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("prompts", [SOME, FEW], ids=["shared", "alone"])
@pytest.mark.parametrize("kind", ["llama", "gemma3"])
@pytest.mark.parametrize("options", [{}, {"top_p": 0.8}, {"top_k": 7, "temperature": 1.5}], ids=str)
def test_a_row_does_not_depend_on_its_batch(kind: str, options: dict[str, Any], prompts: list[Prompt]) -> None:
    sampling, keys = Sampling(max_tokens=25, **options), KEYS[: len(prompts)]
    whole = tokens(engine(kind, ends=ENDS).generate(prompts, keys, sampling))
    backwards = engine(kind, ends=ENDS).generate(prompts[::-1], keys[::-1], sampling)
    assert tokens(backwards)[::-1] == whole
    for budget in ({"max_batch_rows": 1}, {"max_batch_rows": 3}, {"max_batch_tokens": 90}, {"grouped": False}):
        assert tokens(engine(kind, ends=ENDS, **budget).generate(prompts, keys, sampling)) == whole


def test_batch_size_hardly_ever_changes_a_completion() -> None:
    prompts = some_prompts(50, copies=(4,))
    sampling, keys = Sampling(max_tokens=12), range(len(prompts))
    large = tokens(engine(ends=ENDS).generate(prompts, keys, sampling))
    small = tokens(engine(ends=ENDS, max_batch_rows=16).generate(prompts, keys, sampling))
    assert sum(a == b for a, b in zip(large, small, strict=True)) >= 0.99 * len(prompts)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("grouped", [True, False], ids=["grouped", "plain"])
def test_pairs_follow_the_models_distribution_where_rows_join(grouped: bool, dtype: torch.dtype) -> None:
    local, many = engine(grouped=grouped, compute_dtype=dtype, max_batch_rows=300), 3000
    first, rest = local.generate([SOME[0]], [0], Sampling(max_tokens=2, top_k=1))[0].token_ids
    local._ends = (first,)  # rows leave after the first token or after the second
    completions = local.generate([SOME[0]] * many, range(many), Sampling(max_tokens=2, top_k=3))
    expected: dict[tuple[int, ...], float] = {}
    for p, a in _likeliest(local.model, SOME[0].token_ids, 3):
        after = [(1.0, rest)] if a == first else _likeliest(local.model, (*SOME[0].token_ids, a), 3)
        expected |= {((a,) if a == first else (a, b)): p * q * many for q, b in after}
    counts = Counter(tokens(completions))
    assert set(counts) <= set(expected)
    pearson = sum((counts[pair] - n) ** 2 / n for pair, n in expected.items())
    assert pearson < 31.9  # above the 1 - 1e-4 quantile of at most 8 degrees


def _likeliest(model: Any, ids: tuple[int, ...], count: int) -> list[tuple[float, int]]:
    """The probabilities, of these alone, and the tokens that most probably follow."""
    with torch.no_grad():
        top = model(input_ids=torch.tensor([ids])).logits[0, -1].topk(count)
    return list(zip(top.values.softmax(-1).tolist(), top.indices.tolist(), strict=True))


def test_equal_prompts_are_read_once() -> None:
    local = engine()
    read: list[tuple[int, ...]] = []
    embed: Any = local.model.get_input_embeddings()  # type: ignore[operator]
    local.generate(SOME[:1], [0], Sampling(max_tokens=1))  # the engine tries its decoders once
    embed.register_forward_hook(lambda _, args, out: read.append(tuple(args[0].shape)))
    local.generate(SOME + SOME, range(2 * len(SOME)), Sampling(max_tokens=2))
    different = {prompt.token_ids for prompt in SOME}
    assert read == [(len(different), max(map(len, different))), (2 * len(SOME), 1)]


@pytest.mark.parametrize(("copies", "lengths"), [(1, {0}), (2, {11})])
def test_a_prompt_is_shared_from_two_rows_on(copies: int, lengths: set[int], monkeypatch: pytest.MonkeyPatch) -> None:
    found: set[int] = set()

    def watched(decoder: GroupedDecoder, tokens: torch.Tensor, step: Any = GroupedDecoder.step) -> torch.Tensor:
        found.update(decoder._cache.layer(i).prompt_keys.shape[2] for i in range(2))
        logits: torch.Tensor = step(decoder, tokens)
        return logits

    local = engine()
    local.generate(SOME[:1], [0], Sampling(max_tokens=1))  # the engine tries its decoders once
    monkeypatch.setattr(GroupedDecoder, "step", watched)
    local.generate([prompt_of(11), prompt_of(4)] * copies, range(2 * copies), Sampling(max_tokens=3))
    assert found == lengths


def test_finished_rows_leave() -> None:
    local = engine(ends=ENDS)
    sizes: list[int] = []
    completions = local.generate(SOME, KEYS, Sampling(max_tokens=30))
    local.model.register_forward_hook(lambda *_: sizes.append(0))
    embed: Any = local.model.get_input_embeddings()  # type: ignore[operator]
    embed.register_forward_hook(lambda _, args, out: sizes.append(len(args[0])))
    assert local.generate(SOME, KEYS, Sampling(max_tokens=30)) == completions
    steps = [size for size in sizes if size][1:]
    assert len(steps) == max(len(c.token_ids) for c in completions) - 1
    for t, size in enumerate(steps, 1):
        running = sum(len(c.token_ids) > t for c in completions)
        assert running <= size < running / 0.75 + 1


@pytest.mark.parametrize("prompts", [MANY, some_prompts(60, copies=(2, 1, 1))], ids=["shared", "alone"])
@pytest.mark.parametrize("kind", sorted(GROUPED))
def test_rows_that_join_say_what_they_would_say_alone(kind: str, prompts: list[Prompt]) -> None:
    sampling, keys = Sampling(max_tokens=40), range(len(prompts))
    local = engine(kind, ends=ENDS, **JOINING)
    joined = local.generate(prompts, keys, sampling)
    assert local.generate(prompts, keys, sampling) == joined  # to the bit
    plain = tokens(engine(kind, ends=ENDS, grouped=False).generate(prompts, keys, sampling))
    assert sum(a == b for a, b in zip(tokens(joined), plain, strict=True)) >= 0.99 * len(prompts)
    for prompt, completion in zip(prompts, joined, strict=True):
        check_end(completion, 40, ENDS)
        expected = forced(local.model, prompt, completion)
        torch.testing.assert_close(torch.tensor(completion.logprobs), expected, atol=1e-4, rtol=0)


def test_waiting_rows_take_the_places_of_those_that_are_over() -> None:
    local = engine(ends=ENDS, **JOINING)
    shapes: list[tuple[int, int]] = []
    completions = local.generate(MANY, range(len(MANY)), Sampling(max_tokens=40))
    embed: Any = local.model.get_input_embeddings()  # type: ignore[operator]
    embed.register_forward_hook(lambda _, args, out: shapes.append(tuple(args[0].shape)))
    assert local.generate(MANY, range(len(MANY)), Sampling(max_tokens=40)) == completions
    steps = [rows for rows, length in shapes if length == 1]
    lengths = [len(c.token_ids) for c in completions]
    assert max(steps) <= 16
    assert len(steps) < 1.5 * sum(lengths) / 16 + 40
    waves = sum(max(lengths[i : i + 16]) for i in range(0, len(lengths), 16))
    assert len(steps) < 0.8 * waves
    assert sum(length > 1 for _, length in shapes) < 20  # prompts are read several at once


def test_no_row_goes_beyond_the_models_positions() -> None:
    local = engine(ends=ENDS, **JOINING)
    prompts = [prompt_of(24)] * 40
    local.generate(prompts[:1], [0], Sampling(max_tokens=1))  # the engine tries its decoders once
    last: list[int] = []
    local.model.register_forward_pre_hook(
        lambda _, args, kwargs: last.append(int(kwargs["position_ids"].max())), with_kwargs=True
    )
    completions = local.generate(prompts, range(40), Sampling(max_tokens=40))
    assert any(c.finish_reason == "length" for c in completions)
    assert max(last) == 24 + 40 - 2  # nothing follows the last token
