from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from tiny import tiny_model
from transformers import AutoModelForCausalLM, Gemma3ForCausalLM, Gemma3TextConfig, GPT2Config, GPT2LMHeadModel

from groupwise.rollout.embedding import PromptEmbeddings, embed, first_layers
from groupwise.types import UserError

PROMPTS = [[5, 6, 7], [8], list(range(9, 40)), [5, 6, 7, 8], [20] * 17]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return AutoModelForCausalLM.from_pretrained(tiny_model(tmp_path_factory.mktemp("model"), layers=4)).eval()


def alone(decoder: Any, prompt: Sequence[int]) -> np.ndarray:
    with torch.no_grad():
        mean = decoder(input_ids=torch.tensor([prompt])).last_hidden_state[0].mean(0)
    return (mean / mean.norm()).numpy()  # type: ignore[no-any-return]


def test_the_mean_hidden_state_of_each_prompt_whatever_it_runs_with(model: Any) -> None:
    decoder = model.get_decoder()
    expected = np.stack([alone(decoder, prompt) for prompt in PROMPTS])
    for rows in (1, 2, 32):
        found = embed(decoder, PROMPTS, rows)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, expected, atol=1e-5)
    assert embed(decoder, []).shape == (0, 0)
    assert np.isfinite(embed(decoder, [[], [4]])).all()


def test_the_first_layers_are_those_of_the_model(model: Any) -> None:
    before = {name: weights.clone() for name, weights in model.state_dict().items()}
    with torch.no_grad():
        states = model.get_decoder()(input_ids=torch.tensor([PROMPTS[0]]), output_hidden_states=True).hidden_states
    frozen = first_layers(model)
    mean = model.get_decoder().norm(states[2])[0].mean(0).detach().numpy()
    np.testing.assert_allclose(embed(frozen, PROMPTS[:1])[0], mean / np.linalg.norm(mean), atol=1e-5)
    np.testing.assert_allclose(embed(first_layers(model, 4), PROMPTS), embed(model.get_decoder(), PROMPTS), atol=1e-6)
    assert len(model.get_decoder().layers) == model.config.num_hidden_layers == 4
    assert all(torch.equal(before[name], weights) for name, weights in model.state_dict().items())


def test_the_copy_is_small_frozen_and_does_not_follow_the_policy(model: Any) -> None:
    frozen = first_layers(model)
    before = embed(frozen, PROMPTS)
    assert sum(p.numel() for p in frozen.parameters()) < 0.6 * model.num_parameters()
    assert not any(p.requires_grad for p in frozen.parameters())
    assert all(p.requires_grad for p in model.parameters())
    with torch.no_grad():
        for weights in model.parameters():
            weights.mul_(-1.5)
    try:
        np.testing.assert_array_equal(embed(frozen, PROMPTS), before)
    finally:
        with torch.no_grad():
            for weights in model.parameters():
                weights.div_(-1.5)


SMALL: dict[str, Any] = {"vocab_size": 64, "bos_token_id": 0, "eos_token_id": 1}
OTHERS = {
    "gpt2": lambda: GPT2LMHeadModel(GPT2Config(n_layer=3, n_embd=16, n_head=2, **SMALL)),
    "gemma3, sliding windows": lambda: Gemma3ForCausalLM(
        Gemma3TextConfig(
            num_hidden_layers=7,
            hidden_size=16,
            intermediate_size=16,
            num_attention_heads=2,
            num_key_value_heads=1,
            head_dim=8,
            sliding_window=8,
            pad_token_id=0,
            **SMALL,
        )
    ),
}


@pytest.mark.parametrize("make", OTHERS.values(), ids=OTHERS)
def test_other_architectures(make: Any) -> None:
    torch.manual_seed(0)
    model = make().eval()
    depth = model.config.num_hidden_layers
    assert embed(first_layers(model), PROMPTS).shape == (5, 16)
    whole = embed(model.get_decoder(), PROMPTS)
    np.testing.assert_allclose(embed(first_layers(model, depth), PROMPTS), whole, atol=1e-6)


def test_a_model_without_a_list_of_layers_is_named(model: Any) -> None:
    decoder = model.get_decoder()
    layers, decoder.layers = decoder.layers, decoder.layers[:1]
    try:
        with pytest.raises(UserError, match=r"grouping\.embedding: 'policy' finds no list of 4 layers in LlamaModel"):
            first_layers(model)
    finally:
        decoder.layers = layers


class Counted:
    """An encoder of numbers that counts what it is asked for."""

    def __init__(self) -> None:
        self.asked: list[Any] = []

    def __call__(self, prompts: Sequence[Any]) -> np.ndarray:
        self.asked += prompts
        return np.array([[1.0, np.sin(p), np.cos(3 * p)] for p in prompts], np.float32)


def test_each_prompt_is_embedded_once_while_it_is_remembered() -> None:
    encode = Counted()
    embeddings = PromptEmbeddings(encode, most=3)
    first = embeddings(["a", "b", "a"], [1, 2, 1])
    assert encode.asked == [1, 2]
    np.testing.assert_array_equal(first[0], first[2])
    np.testing.assert_array_equal(embeddings(["b", "a", "c"], [2, 1, 3])[:2], first[1::-1])
    embeddings(["d"], [4])  # b was asked for before a and c
    embeddings(["a", "c", "b"], [1, 3, 2])
    assert encode.asked == [1, 2, 3, 4, 2]
    assert embeddings([], []).shape[0] == 0


def test_the_shared_component_of_the_first_prompts_is_taken_out() -> None:
    embeddings = PromptEmbeddings(Counted())
    found = embeddings(list("abcdefgh"), range(8))
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-6)
    assert abs((found @ found.T)[np.triu_indices(8, 1)].mean()) < 0.2
    again = embeddings(["z", "a"], [100, 0])
    np.testing.assert_array_equal(again[1], found[0])  # the centre stays


def test_resume_is_exact() -> None:
    live, copy = PromptEmbeddings(Counted(), most=4), PromptEmbeddings(Counted(), most=4)
    live(["a", "b", "c"], [1, 2, 3])
    copy.load_state(live.state())
    for keys, prompts in ((["c", "x", "y"], [3, 5, 6]), (["b", "a"], [2, 1])):
        np.testing.assert_array_equal(live(keys, prompts), copy(keys, prompts))
    assert live.state()["keys"] == copy.state()["keys"] == ["x", "y", "b", "a"]
    np.testing.assert_array_equal(live.state()["vectors"], copy.state()["vectors"])


def test_families_of_tasks_are_found_by_seedlings_first_layers() -> None:
    from groupwise.config import TaskConfig
    from groupwise.grouping.clusters import Clusters
    from groupwise.grouping.quality import adjusted_rand
    from groupwise.learner.policy import load_policy
    from groupwise.rollout.encode import encode
    from groupwise.tasks.load import load_task
    from groupwise.tasks.mixture import Mixture

    names = ["chain_sum", "gcd", "leg_counting", "number_filtering", "spell_backward", "syllogism"]
    policy = load_policy("seedling", torch.device("cpu"))
    mixture = Mixture([load_task(TaskConfig(name=name)) for name in names], [1.0] * len(names), 0)
    prompts = encode(mixture.draw(96), policy.tokenizer)
    frozen = first_layers(policy.model)
    embeddings = PromptEmbeddings(lambda ids: embed(frozen, ids))
    vectors = embeddings([p.id for p in prompts], [p.token_ids for p in prompts])
    clusters = Clusters(0.5)
    found = np.array([clusters.assign(p.id, vector, 0) for p, vector in zip(prompts, vectors, strict=True)])
    tasks = np.array([names.index(p.task) for p in prompts])
    assert adjusted_rand(found, tasks) > 0.6
