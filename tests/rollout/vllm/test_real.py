"""vLLM itself: it says what transformers says, with the learner's log-probs, and follows every change of weights."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import tiny_model

from groupwise.rollout.local import LocalEngine
from groupwise.rollout.vllm.client import Client
from groupwise.rollout.vllm.engine import VllmEngine
from groupwise.rollout.vllm.process import ServerProcess
from groupwise.types import Sampling, UserError
from rollout.cases import forced, some_prompts

pytest.importorskip("vllm")
pytestmark = [pytest.mark.vllm, pytest.mark.slow]

SOME = some_prompts(8)
KEYS = range(100, 100 + len(SOME))
END = 1


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("tiny"), hidden=128)  # vLLM wants heads of 32 numbers on a CPU


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[ServerProcess]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VLLM_CPU_KVCACHE_SPACE", "1")
        log = folder / "vllm.log"
        process = ServerProcess(str(folder), dtype="float32", memory=0.3, log=log, deadline=300)
    yield process
    process.close()


@pytest.fixture(scope="module")
def loaded(folder: Path) -> tuple[Any, Any]:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    return AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)


@pytest.fixture
def pair(server: ServerProcess, loaded: tuple[Any, Any]) -> tuple[VllmEngine, LocalEngine]:
    """vLLM and transformers with the same weights, so large that tokens depend on what was read; not the folder's."""
    model, tokenizer = copy.deepcopy(loaded[0]), loaded[1]
    torch.manual_seed(0)
    with torch.no_grad():
        for weights in model.parameters():
            if weights.ndim > 1:
                weights.normal_(0, 0.08)
    engine = VllmEngine(Client(server.address, 120, "see its log"), tokenizer, (END,))
    engine.take_weights(model.named_parameters(), 3)
    return engine, LocalEngine(model, tokenizer)


def test_the_likeliest_tokens_are_those_of_transformers(pair: tuple[VllmEngine, LocalEngine]) -> None:
    sampling = Sampling(max_tokens=24, top_k=1)
    theirs, ours = (engine.generate(SOME, KEYS, sampling) for engine in pair)
    for a, b in zip(theirs, ours, strict=True):
        assert (a.token_ids, a.text, a.finish_reason) == (b.token_ids, b.text, b.finish_reason)
        assert a.logprobs == pytest.approx(b.logprobs, abs=1e-4)
        assert a.policy_version == 3


@pytest.mark.parametrize(
    "options",
    [{}, {"temperature": 0.7}, {"top_p": 0.8}, {"temperature": 0.7, "top_p": 0.8, "top_k": 9}, {"temperature": 1.6}],
    ids=str,
)
def test_log_probs_are_the_learners(pair: tuple[VllmEngine, LocalEngine], options: dict[str, Any]) -> None:
    engine, local = pair
    sampling = Sampling(max_tokens=40, **options)
    completions = engine.generate(SOME, KEYS, sampling)
    for prompt, completion in zip(SOME, completions, strict=True):
        expected = forced(local.model, prompt, completion, sampling.temperature)
        torch.testing.assert_close(torch.tensor(completion.logprobs), expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("options", [{"temperature": 0.3}, {"top_k": 5}, {"top_p": 0.3, "temperature": 0.7}], ids=str)
def test_draws_follow_the_policy(pair: tuple[VllmEngine, LocalEngine], options: dict[str, Any]) -> None:
    """First tokens of one prompt, from vLLM and from us: their frequencies differ as two samples of one law do."""
    many = 4000
    sampling = Sampling(max_tokens=1, **options)
    counts = []
    for engine in pair:
        completions = engine.generate([SOME[0]] * many, range(many), sampling)
        counts.append(torch.bincount(torch.tensor([c.token_ids[0] for c in completions]), minlength=96).double())
    a, b = counts
    seen = a + b > 0
    statistic = float(((a - b)[seen] ** 2 / (a + b)[seen]).sum())
    degrees = int(seen.sum()) - 1
    assert degrees > 2
    assert statistic < degrees + 5 * (2 * degrees) ** 0.5


def test_completions_end_where_they_should(pair: tuple[VllmEngine, LocalEngine]) -> None:
    engine, _ = pair
    many = [SOME[0]] * 300
    completions = engine.generate(many, range(300), Sampling(max_tokens=40))
    assert {c.finish_reason for c in completions} == {"stop", "length"}
    for completion in completions:
        ended = completion.token_ids[-1] == END
        assert END not in completion.token_ids[:-1]
        assert completion.finish_reason == ("stop" if ended else "length")
        assert ended or len(completion.token_ids) == 40
        said = completion.token_ids[: -1 if ended else None]
        assert completion.text == engine.tokenizer.decode(said, skip_special_tokens=True)


def test_stop_strings(pair: tuple[VllmEngine, LocalEngine]) -> None:
    engine, _ = pair
    free = engine.generate(SOME, KEYS, Sampling(max_tokens=40))
    text = max((c.text for c in free), key=len)
    stop = (text[4:6], text[20:23])
    cut = 0
    for before, after in zip(free, engine.generate(SOME, KEYS, Sampling(max_tokens=40, stop=stop)), strict=True):
        ids = before.token_ids
        texts = [engine.tokenizer.decode(ids[:n], skip_special_tokens=True) for n in range(1, len(ids) + 1)]
        end = next((n for n, said in enumerate(texts, 1) if any(s in said for s in stop)), None)
        if end is None:
            assert after == before
        else:
            cut += 1
            assert (after.token_ids, after.finish_reason) == (ids[:end], "stop")
            assert after.text == texts[end - 1][: min(at for s in stop if (at := texts[end - 1].find(s)) >= 0)]
    assert cut


def test_the_same_seeds_say_the_same(pair: tuple[VllmEngine, LocalEngine]) -> None:
    engine, _ = pair
    sampling = Sampling(max_tokens=24, temperature=0.9, top_p=0.9, seed=5)
    completions = engine.generate(SOME, KEYS, sampling)
    assert engine.generate(SOME[::-1], KEYS[::-1], sampling)[::-1] == completions
    assert engine.generate(SOME[2:3], KEYS[2:3], sampling)[0].token_ids == completions[2].token_ids
    assert len({c.token_ids for c in engine.generate([SOME[0]] * 20, range(20), sampling)}) == 20
    other = engine.generate(SOME, KEYS, Sampling(max_tokens=24, temperature=0.9, top_p=0.9, seed=6))
    assert all(a.token_ids != b.token_ids for a, b in zip(completions, other, strict=True))


def test_new_weights_are_followed(pair: tuple[VllmEngine, LocalEngine]) -> None:
    engine, local = pair
    sampling = Sampling(max_tokens=24, top_k=1)
    said = [engine.generate(SOME, KEYS, sampling)]
    for version in (4, 5):
        with torch.no_grad():
            for weights in local.model.parameters():
                weights.add_(0.05 * torch.randn_like(weights))
        engine.take_weights(local.model.named_parameters(), version)
        said.append(engine.generate(SOME, KEYS, sampling))
        for a, b in zip(said[-1], local.generate(SOME, KEYS, sampling), strict=True):
            assert (a.token_ids, a.policy_version) == (b.token_ids, version)
            assert a.logprobs == pytest.approx(b.logprobs, abs=1e-4)
    assert said[0] != said[1] != said[2]


def test_weights_of_another_model_are_refused(folder: Path, loaded: tuple[Any, Any]) -> None:
    model, tokenizer = loaded
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VLLM_CPU_KVCACHE_SPACE", "1")
        process = ServerProcess(str(folder), dtype="float32", memory=0.3, log=folder / "other.log", deadline=300)
    try:
        engine = VllmEngine(Client(process.address, 120, "see its log"), tokenizer, (END,))
        engine.take_weights([(name, w) for name, w in model.named_parameters() if name != "model.norm.weight"], 0)
        with pytest.raises(UserError, match=r"1 of the model's weights did not come, e\.g\. model\.norm\.weight"):
            engine.generate(SOME, KEYS, Sampling(max_tokens=4))
        engine.take_weights([(f"base.{name}", w) for name, w in model.named_parameters()], 0)
        with pytest.raises(UserError, match="start the server again"):
            engine.generate(SOME, KEYS, Sampling(max_tokens=4))
    finally:
        process.close()
