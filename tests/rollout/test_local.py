"""The local engine says what transformers would say, with the log-probs a plain forward pass gives."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import LlamaConfig, LlamaForCausalLM

from groupwise.run.doing import listening
from groupwise.types import Engine, Sampling, UserError

from .cases import EOS, VOCABULARY, check_end, engine, forced, prompt_of, some_prompts, tiny, tokens

SOME = some_prompts(copies=(5, 1, 3))
KEYS = list(range(100, 100 + len(SOME)))
ENDS = (EOS, 11, 17, 23, 31)  # completions of all lengths


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


def test_it_says_how_many_completions_are_over() -> None:
    heard: list[tuple[str, int, int]] = []
    with listening(lambda *what: heard.append(what)):
        engine(ends=ENDS, max_batch_rows=3).generate(SOME, KEYS, Sampling(max_tokens=25))
    counts = [done for _, done, _ in heard]
    assert counts == sorted(set(counts))
    assert heard[-1] == ("generate", len(SOME), len(SOME))
    assert len(heard) > 2


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


def test_nothing_to_generate() -> None:
    assert engine().generate([], [], Sampling(max_tokens=4)) == []


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
