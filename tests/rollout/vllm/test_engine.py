"""What goes out to a vLLM server and what comes back, over real HTTP, from a model that only pretends."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch

from groupwise.rollout.vllm.engine import row_seed
from groupwise.types import Completion, Engine, Prompt, Sampling, UserError
from rollout.cases import EOS, some_prompts

from .cases import FakeModel, engine_on, served

SOME = some_prompts(3)
KEYS = range(100, 100 + len(SOME))
TENSORS = {"a.weight": torch.arange(6.0).view(2, 3), "b.count": torch.tensor([7])}


def pair(**status: Any) -> tuple[FakeModel, Any]:
    model = FakeModel(**status)
    engine = engine_on(served(model))
    engine.take_weights(TENSORS.items(), 4)
    return model, engine


def test_completions_come_back_in_order() -> None:
    _, engine = pair()
    typed: Engine = engine
    completions = typed.generate(SOME, KEYS, Sampling(max_tokens=5))
    assert completions == [
        Completion(
            token_ids=prompt.token_ids,
            logprobs=(-0.5,) * len(prompt.token_ids),
            text=" ".join(f"w{t}" for t in prompt.token_ids),
            finish_reason="length",
            policy_version=4,
        )
        for prompt in SOME
    ]


def test_what_is_asked() -> None:
    model, engine = pair()
    sampling = Sampling(max_tokens=5, temperature=0.7, top_p=0.9, top_k=3, stop=("w4", ""), seed=8)
    engine.generate(SOME, KEYS, sampling)
    assert model.asked == [
        {
            "weights": model.weights,
            "prompts": [list(prompt.token_ids) for prompt in SOME],
            "seeds": [row_seed(8, key) for key in KEYS],
            "end_token_ids": [EOS, 11],
            "max_tokens": 5,
            "temperature": 0.7,
            "top_p": 0.9,
            "top_k": 3,
            "stop": ["w4"],
        }
    ]


def test_the_text_lacks_the_end_token_and_what_follows_a_stop_string() -> None:
    model, engine = pair()
    for ids, text, stop in [
        ([5, 6, 11], "w5 w6", ()),
        ([5, 6, EOS], "w5 w6", ()),
        ([11, 6], "w11 w6", ()),
        ([5, 6, 7], "w5 ", ("w6",)),
        ([11], "", ()),
    ]:
        model.says = [{"token_ids": ids, "logprobs": [-1.0] * len(ids), "finish_reason": "stop"}]
        (completion,) = engine.generate(SOME[:1], [0], Sampling(max_tokens=5, stop=stop))
        assert (completion.text, completion.token_ids) == (text, tuple(ids))
        assert completion.finish_reason == "stop"


def test_seeds_belong_to_rows() -> None:
    assert len({row_seed(seed, key) for seed in range(30) for key in range(30)}) == 900
    assert all(0 <= row_seed(0, key) < 2**63 for key in range(1000))
    assert row_seed(1, 23) != row_seed(12, 3)
    assert row_seed(7, 11) == 3406729682998392797  # runs of older versions can be repeated


def test_weights_are_sent_when_they_are_needed() -> None:
    model, engine = pair()
    assert model.taken == []
    engine.generate(SOME, KEYS, Sampling(max_tokens=5))
    engine.generate(SOME, KEYS, Sampling(max_tokens=5))
    assert len(model.taken) == 1
    assert {name: tensor.tolist() for name, tensor in model.tensors.items()} == {
        name: tensor.tolist() for name, tensor in TENSORS.items()
    }
    engine.take_weights([("a.weight", torch.ones(2))], 5)
    assert engine.generate(SOME[:1], [0], Sampling(max_tokens=5))[0].policy_version == 5
    assert model.tensors["a.weight"].tolist() == [1, 1]
    assert len(model.taken) == 2
    assert not any(path.parent.exists() for path in model.taken)


def test_a_server_that_was_started_anew_gets_the_weights_again() -> None:
    model, engine = pair()
    engine.generate(SOME, KEYS, Sampling(max_tokens=5))
    model.weights, model.tensors = None, {}
    engine.generate(SOME, KEYS, Sampling(max_tokens=5))
    assert set(model.tensors) == set(TENSORS)


def test_two_trainers_never_see_the_weights_of_the_other() -> None:
    model = FakeModel()
    address = served(model)
    engines = [engine_on(address) for _ in range(2)]
    for number, engine in enumerate(engines):
        engine.take_weights([("a", torch.tensor([float(number)]))], 4)  # at the same version
    for number in (0, 1, 0):
        engines[number].generate(SOME[:1], [0], Sampling(max_tokens=5))
        assert model.tensors["a"].item() == number


class Contested(FakeModel):
    """Another trainer gives it other weights right after the next `times`."""

    times = 3

    def take(self, request: Mapping[str, Any]) -> dict[str, Any]:
        told = super().take(request)
        self.times -= 1
        if self.times >= 0:
            self.weights = "the other's"
        return told


def test_weights_are_sent_until_they_are_those_that_generate() -> None:
    model = Contested()
    engine = engine_on(served(model))
    engine.take_weights(TENSORS.items(), 4)
    assert len(engine.generate(SOME, KEYS, Sampling(max_tokens=5))) == len(SOME)
    assert len(model.taken) == 4


def test_a_server_that_others_never_leave_alone() -> None:
    model = Contested()
    model.times = 10**9
    engine = engine_on(served(model), deadline=0.5)
    engine.take_weights(TENSORS.items(), 4)
    with pytest.raises(UserError, match=r"other weights again and again for 0\.5 s"):
        engine.generate(SOME, KEYS, Sampling(max_tokens=5))


def test_floats_travel_in_the_servers_type() -> None:
    model, engine = pair(dtype="bfloat16")
    engine.generate(SOME, KEYS, Sampling(max_tokens=5))
    assert (model.tensors["a.weight"].dtype, model.tensors["b.count"].dtype) == (torch.bfloat16, torch.int64)


def test_views_travel_whole() -> None:
    model, engine = pair()
    engine.take_weights([("turned", TENSORS["a.weight"].T)], 5)
    engine.generate(SOME, KEYS, Sampling(max_tokens=5))
    assert torch.equal(model.tensors["turned"], TENSORS["a.weight"].T)


def test_nothing_to_generate() -> None:
    model, engine = pair()
    assert engine.generate([], [], Sampling(max_tokens=5)) == []
    assert model.asked == []


def test_prompt_and_completion_must_fit() -> None:
    _, engine = pair()
    prompt = Prompt(id="long", task="t", domain="d", text="", token_ids=(5,) * 24)
    assert len(engine.generate([prompt], [0], Sampling(max_tokens=40))) == 1
    with pytest.raises(UserError, match=r"\b24 tokens.*\b41\b.*\b64\b.*rollout\.vllm\.memory"):
        engine.generate([prompt], [0], Sampling(max_tokens=41))


def test_a_policy_that_diverged() -> None:
    model, engine = pair()
    model.says = [{"token_ids": [5], "logprobs": [float("nan")], "finish_reason": "length"}]
    with pytest.raises(UserError, match=r"diverged.*update\.learning_rate"):
        engine.generate(SOME[:1], [0], Sampling(max_tokens=5))


def test_wrong_calls() -> None:
    _, engine = pair()
    with pytest.raises(ValueError, match="12 keys"):
        engine.generate(SOME[:2], range(12), Sampling(max_tokens=3))
    with pytest.raises(ValueError, match="'p0' has no token_ids"):
        engine.generate([Prompt(id="p0", task="t", domain="d", text="")], [0], Sampling(max_tokens=3))
    with pytest.raises(ValueError, match="take_weights"):
        engine_on(served(FakeModel())).generate(SOME[:1], [0], Sampling(max_tokens=3))
