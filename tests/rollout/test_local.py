"""The local engine says what transformers would say, with the log-probs a plain forward pass gives."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import LlamaConfig, LlamaForCausalLM

from groupwise.rollout.grouped import GroupedDecoder
from groupwise.run.doing import listening
from groupwise.types import Completion, Engine, Prompt, Sampling, UserError

from .cases import CONFIGS, EOS, GROUPED, VOCABULARY, engine, forced, some_prompts, tiny, tokens

SOME = some_prompts(copies=(5, 1, 3))
KEYS = list(range(100, 100 + len(SOME)))
FEW = some_prompts(8, copies=(2, 1, 1))  # so few completions a prompt that each caches its own
BOTH = pytest.mark.parametrize("prompts", [SOME, FEW], ids=["shared", "alone"])
ENDS = (EOS, 11, 17, 23, 31)  # completions of all lengths


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


@pytest.mark.parametrize("kind", ["llama", "qwen3", "gemma3"])
def test_the_likeliest_tokens_are_those_of_generate(kind: str) -> None:
    local = engine(kind, ends=ENDS)
    completions = local.generate(SOME, KEYS, Sampling(max_tokens=30, top_k=1))
    for prompt, completion in zip(SOME, completions, strict=True):
        ids = torch.tensor([prompt.token_ids])
        said = local.model.generate(  # type: ignore[operator]
            input_ids=ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=30
        )
        assert completion.token_ids == tuple(said[0, ids.shape[1] :].tolist())


@BOTH
@pytest.mark.parametrize("kind", ["llama", "gemma3"])
@pytest.mark.parametrize("options", [{}, {"top_p": 0.8}, {"top_k": 7, "temperature": 1.5}], ids=str)
def test_a_row_does_not_depend_on_its_batch(kind: str, options: dict[str, Any], prompts: list[Prompt]) -> None:
    sampling, keys = Sampling(max_tokens=25, **options), KEYS[: len(prompts)]
    whole = tokens(engine(kind, ends=ENDS).generate(prompts, keys, sampling))
    backwards = engine(kind, ends=ENDS).generate(prompts[::-1], keys[::-1], sampling)
    assert tokens(backwards)[::-1] == whole
    for budget in ({"max_batch_rows": 1}, {"max_batch_rows": 3}, {"max_batch_tokens": 90}, {"grouped": False}):
        assert tokens(engine(kind, ends=ENDS, **budget).generate(prompts, keys, sampling)) == whole


def test_it_says_how_many_completions_are_over() -> None:
    heard: list[tuple[str, int, int]] = []
    with listening(lambda *what: heard.append(what)):
        engine(ends=ENDS, max_batch_rows=3).generate(SOME, KEYS, Sampling(max_tokens=25))
    counts = [done for _, done, _ in heard]
    assert counts == sorted(set(counts))
    assert heard[-1] == ("generate", len(SOME), len(SOME))
    assert len(heard) > 2


def test_batch_size_hardly_ever_changes_a_completion() -> None:
    prompts = some_prompts(50, copies=(4,))
    sampling, keys = Sampling(max_tokens=12), range(len(prompts))
    large = tokens(engine(ends=ENDS).generate(prompts, keys, sampling))
    small = tokens(engine(ends=ENDS, max_batch_rows=16).generate(prompts, keys, sampling))
    assert sum(a == b for a, b in zip(large, small, strict=True)) >= 0.99 * len(prompts)


def test_seeds_and_keys_fix_and_change_what_is_drawn() -> None:
    local = engine()
    first = local.generate(SOME, KEYS, Sampling(max_tokens=9, seed=1))
    assert local.generate(SOME, KEYS, Sampling(max_tokens=9, seed=1)) == first
    assert tokens(local.generate(SOME, KEYS, Sampling(max_tokens=9, seed=2))) != tokens(first)
    assert tokens(local.generate(SOME, range(len(SOME)), Sampling(max_tokens=9, seed=1))) != tokens(first)
    same, other = local.generate([SOME[0]] * 3, [5, 6, 5], Sampling(max_tokens=9))[1:]
    assert same.token_ids != other.token_ids
    assert len(set(tokens(local.generate([SOME[0]] * 3, [5, 5, 5], Sampling(max_tokens=9))))) == 1


def test_draws_follow_the_models_distribution() -> None:
    # Pearson's statistic by hand: first tokens of many rows of one prompt
    local, many = engine(), 3000
    completions = local.generate([SOME[0]] * many, range(many), Sampling(max_tokens=1, top_k=5))
    with torch.no_grad():
        logits = local.model(input_ids=torch.tensor([SOME[0].token_ids])).logits[0, -1]
    ranked, order = logits.topk(5)
    expected = ranked.softmax(-1) * many
    counts = torch.bincount(torch.tensor([c.token_ids[0] for c in completions]), minlength=VOCABULARY)
    assert int(counts[order].sum()) == many
    assert float(((counts[order] - expected) ** 2 / expected).sum()) < 23.5  # the 1 - 1e-4 quantile, 4 degrees


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


def check_end(completion: Completion, max_tokens: int, ends: tuple[int, ...]) -> None:
    inside = [t in ends for t in completion.token_ids]
    assert not any(inside[:-1])
    assert completion.finish_reason == ("stop" if inside[-1] else "length")
    assert len(completion.token_ids) == max_tokens or inside[-1]
    assert len(completion.logprobs) == len(completion.token_ids) <= max_tokens
    said = completion.token_ids[: -1 if inside[-1] else None]
    assert completion.text == " ".join(f"w{t}" for t in said if t > 3)  # neither special nor end tokens


@pytest.mark.parametrize("max_tokens", [1, 2, 33])
def test_completions_end_at_any_end_token_or_at_the_limit(max_tokens: int) -> None:
    completions = engine(ends=ENDS).generate(SOME, KEYS, Sampling(max_tokens=max_tokens))
    for completion in completions:
        check_end(completion, max_tokens, ENDS)
    if max_tokens == 33:
        assert len({c.token_ids[-1] for c in completions} & set(ENDS)) > 1


def test_stop_strings_cut_the_text_and_keep_the_tokens() -> None:
    local = engine(ends=ENDS)
    free = local.generate(SOME, KEYS, Sampling(max_tokens=30))
    words = max((c.text.split() for c in free), key=len)
    stop = (f"{words[2]} {words[3]}", words[12])
    stopped = local.generate(SOME, KEYS, Sampling(max_tokens=30, stop=stop))
    cut = 0
    for before, after in zip(free, stopped, strict=True):
        ids = before.token_ids
        texts = [local.tokenizer.decode(ids[:n], skip_special_tokens=True) for n in range(1, len(ids) + 1)]
        end = next((n for n, text in enumerate(texts, 1) if any(s in text for s in stop)), None)
        if end is None:
            assert (after.token_ids, after.text) == (ids, before.text)
        else:
            cut += 1
            assert after.token_ids == ids[:end]
            assert after.logprobs == pytest.approx(before.logprobs[:end], abs=1e-5)
            assert after.finish_reason == "stop"
            assert after.text == texts[end - 1][: min(at for s in stop if (at := texts[end - 1].find(s)) >= 0)]
    assert cut > 1


def test_the_policy_version_is_stamped() -> None:
    local: Engine = engine()
    assert local.generate(SOME[:1], [0], Sampling(max_tokens=2))[0].policy_version == 0
    local.take_weights([], 7)
    assert {c.policy_version for c in local.generate(SOME, KEYS, Sampling(max_tokens=2))} == {7}


@pytest.mark.parametrize("outer", [False, True], ids=["", "inside autocast"])
def test_weights_changed_in_place_are_seen(outer: bool) -> None:
    local = engine(compute_dtype=torch.bfloat16)
    sampling = Sampling(max_tokens=8)
    with torch.autocast("cpu", torch.bfloat16, enabled=outer):
        before = local.generate(SOME, KEYS, sampling)
        with torch.no_grad():
            for weights in local.model.parameters():
                weights.mul_(1.5)
        assert local.generate(SOME, KEYS, sampling) != before
        # and nothing that was cast without a graph is left for the learner
        local.model(input_ids=torch.tensor([SOME[0].token_ids])).logits.sum().backward()
    assert all(weights.grad is not None for weights in local.model.parameters())


def test_frozen_weights_are_cast_once_too() -> None:
    class Casts(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            out = func(*args, **(kwargs or {}))
            if func.overloadpacket in (torch.ops.aten.to, torch.ops.aten._to_copy) and args[0].data_ptr() in wide:
                casts[args[0].data_ptr()] += out.dtype is torch.bfloat16
            return out

    local, casts = engine(compute_dtype=torch.bfloat16), Counter[int]()
    wide = {weights.data_ptr() for weights in local.model.parameters() if weights.ndim == 2}
    local.model.model.layers.requires_grad_(False)  # type: ignore[union-attr, operator]
    frozen = [weights.requires_grad for weights in local.model.parameters()]
    with Casts():
        local.generate(SOME, KEYS, Sampling(max_tokens=4))
    assert set(casts.values()) == {1}
    assert len(casts) == 2 * 7 + 1  # the layers' and the head's
    assert [weights.requires_grad for weights in local.model.parameters()] == frozen


def test_bfloat16_is_near_float32() -> None:
    local = engine(ends=ENDS, compute_dtype=torch.bfloat16)
    for prompt, completion in zip(SOME, local.generate(SOME, KEYS, Sampling(max_tokens=20)), strict=True):
        expected = forced(local.model, prompt, completion)
        torch.testing.assert_close(torch.tensor(completion.logprobs), expected, atol=0.1, rtol=0)
    assert {weights.dtype for weights in local.model.parameters()} == {torch.float32}


def test_the_model_is_left_as_it_was() -> None:
    local = engine()
    model: Any = local.model
    model.train()
    model.model.layers[0].eval()
    flags = [module.training for module in model.modules()]
    local.generate(SOME, KEYS, Sampling(max_tokens=3))
    assert [module.training for module in model.modules()] == flags
    assert model.config._attn_implementation == "sdpa"
    assert all(weights.grad is None for weights in model.parameters())
    with pytest.raises(UserError):
        local.generate(SOME, KEYS, Sampling(max_tokens=99))
    assert [module.training for module in model.modules()] == flags


def test_dropout_is_off_and_no_graph_is_kept() -> None:
    local = engine()
    model: Any = local.model
    seen: list[tuple[bool, bool]] = []
    model.lm_head.register_forward_hook(lambda m, _, out: seen.append((m.training, out.is_inference())))
    model.train()
    local.generate(SOME, KEYS, Sampling(max_tokens=3))
    assert set(seen) == {(False, True)}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_what_a_model_keeps_of_a_generation_can_be_learned_from(dtype: torch.dtype) -> None:
    far = {"rope_type": "longrope", "rope_theta": 1e4, "short_factor": [1.0] * 4, "long_factor": [2.0] * 4}
    rope = {**far, "original_max_position_embeddings": 16}

    def made(config: Any) -> Any:
        return LlamaForCausalLM(LlamaConfig(**{**config.to_dict(), "rope_parameters": rope}))

    local = engine(made_by=made, compute_dtype=dtype)
    model: Any = local.model
    local.generate(SOME, KEYS, Sampling(max_tokens=30))
    kept = model.model.rotary_emb.inv_freq
    assert torch.equal(kept, model.model.rotary_emb.long_inv_freq)  # it was changed on the way
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype is not torch.float32):
        model(input_ids=torch.arange(24)[None]).logits.sum().backward()
    assert all(weights.grad is not None and weights.grad.isfinite().all() for weights in model.parameters())


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


MANY = some_prompts(27, copies=(5, 1, 3))
JOINING = {"max_batch_rows": 16}  # MANY are 81 rows


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


def test_nothing_to_generate() -> None:
    assert engine().generate([], [], Sampling(max_tokens=4)) == []


def prompt_of(length: int) -> Prompt:
    return Prompt(id=f"p{length}", task="t", domain="d", text="", token_ids=tuple(range(4, 4 + length)))


def test_prompt_and_completion_must_fit_the_context() -> None:
    local = engine()
    assert len(local.generate([prompt_of(24)], [0], Sampling(max_tokens=40, top_k=1))) == 1
    with pytest.raises(UserError, match=r"\b24 tokens.*\b41\b.*\b64 positions"):
        local.generate([prompt_of(3), prompt_of(24)], [0, 1], Sampling(max_tokens=41))


@pytest.mark.parametrize(
    "wrong",
    [{"max_tokens": 0}, {"temperature": 0.0}, {"top_p": 0.0}, {"top_p": 1.1}, {"top_k": -1}],
    ids=str,
)
def test_impossible_sampling(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="max_tokens"):
        engine().generate(SOME, KEYS, Sampling(**({"max_tokens": 3} | wrong)))


def test_wrong_calls() -> None:
    local = engine()
    with pytest.raises(ValueError, match="12 keys"):
        local.generate(SOME[:2], range(12), Sampling(max_tokens=3))
    with pytest.raises(ValueError, match="'p0' has no token_ids"):
        local.generate([prompt_of(0)], [0], Sampling(max_tokens=3))
    with pytest.raises(ValueError, match="max_batch_rows"):
        engine(max_batch_rows=0)


def test_tiny_models_are_repeatable() -> None:
    first, second = tiny("llama"), tiny("llama")
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


def test_a_model_that_attends_in_its_own_way_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    for kind in ("gemma2", "llama"):
        local = engine(kind)
        for _ in range(2):
            local.generate(some_prompts(2), range(4), Sampling(max_tokens=2))
    assert [record.getMessage() for record in caplog.records if record.name.startswith("groupwise")] == [
        "Gemma2ForCausalLM attends in a way of its own: its rows share no keys"
    ]
