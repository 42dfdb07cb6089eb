"""The recipe's word decides what generates."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from rollout.cases import some_prompts
from rollout.vllm.cases import FakeModel, served

from groupwise.config import Recipe
from groupwise.learner.policy import Policy, load_policy
from groupwise.rollout.local import LocalEngine
from groupwise.rollout.vllm import process
from groupwise.stages.engines import build_engine
from groupwise.types import Engine, Sampling, UserError

from .inside import train_inside
from .stage_rewards import digits


@pytest.fixture
def policy(tiny: Path) -> Policy:
    return load_policy(str(tiny), torch.device("cpu"))


def build(policy: Policy, **rollout: Any) -> Engine:
    return build_engine(Recipe.model_validate({"rollout": rollout}), policy, torch.float32, Path("vllm.log"))


def test_local(policy: Policy) -> None:
    engine = build(policy)
    assert isinstance(engine, LocalEngine)
    assert engine.model is policy.model


def test_a_server_that_runs(policy: Policy) -> None:
    model = FakeModel()
    engine = build(policy, engine="vllm", vllm={"server": served(model)})
    engine.generate(some_prompts(1), [0, 1, 2], Sampling(max_tokens=4))
    assert model.tensors.keys() == dict(policy.model.named_parameters()).keys()
    assert model.asked[0]["end_token_ids"] == [1]


def test_prompts_fit_into_the_context_of_both(tiny: Path, tmp_path: Path) -> None:
    """A vLLM that has less room than the model could never complete a longer prompt, whoever resumes."""
    rollout = {"engine": "vllm", "vllm": {"server": served(FakeModel(context=87))}}
    trainer = train_inside(tmp_path / "run", tiny, digits, rollout=rollout)  # for 12 tokens
    assert max(len(prompt.token_ids) for prompt in trainer.collector.draw(16)) <= 75
    assert trainer.collector.skipped > 0


def test_a_server_that_does_not(policy: Policy) -> None:
    with pytest.raises(UserError, match=r"127\.0\.0\.1:9 .*python -m groupwise\.rollout\.vllm\.server MODEL.*--resume"):
        build(policy, engine="vllm", vllm={"server": "127.0.0.1:9"})


def test_a_server_of_its_own(policy: Policy, tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[Any] = []

    def start(source: str, **options: Any) -> Any:
        started.append((source, options))
        raise UserError("no")

    monkeypatch.setattr("groupwise.stages.engines.ServerProcess", start)
    with pytest.raises(UserError, match="no"):
        build(policy, engine="vllm", vllm={"memory": 0.5, "deadline": 7})
    options = {"dtype": "float32", "memory": 0.5, "log": Path("vllm.log"), "deadline": 7, "gpu": None}
    assert started == [(str(tiny), options)]


def test_without_vllm(policy: Policy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "find_spec", lambda _: None)
    with pytest.raises(UserError, match=r"pip install 'groupwise\[vllm\]'"):
        build(policy, engine="vllm")


@pytest.mark.parametrize(
    ("rollout", "loss", "old"),
    [
        ({"engine": "local"}, {}, "engine"),
        ({"engine": "vllm"}, {}, "learner"),
        ({"engine": "vllm"}, {"old": "engine"}, "engine"),
        ({"int8": True}, {}, "learner"),
        ({"int8": True}, {"old": "engine"}, "engine"),
    ],
)
def test_old_log_probs(rollout: dict[str, Any], loss: dict[str, Any], old: str) -> None:
    recipe = Recipe.model_validate({"rollout": rollout, "loss": loss})
    assert recipe.loss.old == old
    assert Recipe.model_validate(recipe.model_dump()) == recipe


def test_rounded_weights_are_for_the_local_engine_on_a_cpu(policy: Policy) -> None:
    with pytest.raises(ValueError, match=r"rollout\.int8 does not fit rollout\.engine 'vllm'; allowed with local"):
        Recipe.model_validate({"rollout": {"engine": "vllm", "int8": True}})
    elsewhere = policy._replace(model=policy.model.to("meta"))
    with pytest.raises(UserError, match=r"rollout\.int8 is for generating on a CPU; the model is on meta"):
        build(elsewhere, int8=True)


@pytest.mark.parametrize("server", ["here", "http://here:1", "here:port", ":1"])
def test_an_address_is_host_and_port(server: str) -> None:
    with pytest.raises(ValueError, match=r"rollout\.vllm\.server: '.*' is not host:port"):
        Recipe.model_validate({"rollout": {"vllm": {"server": server}}})
