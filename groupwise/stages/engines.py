"""The engine that a recipe asks for."""

from __future__ import annotations

from pathlib import Path

import torch

from groupwise.config import Recipe
from groupwise.learner.lora import merged_weights
from groupwise.learner.memory import cached_tokens
from groupwise.learner.policy import Policy
from groupwise.rollout.encode import end_token_ids
from groupwise.rollout.local import LocalEngine
from groupwise.rollout.vllm.client import Client
from groupwise.rollout.vllm.engine import VllmEngine
from groupwise.rollout.vllm.process import ServerProcess
from groupwise.types import Engine, UserError

REMEDY = "start it (python -m groupwise.rollout.vllm.server MODEL); groupwise train --resume RUN continues"


def local_engine(recipe: Recipe, policy: Policy, dtype: torch.dtype, *, learning: bool) -> LocalEngine:
    """The live model in this process, which leaves room for `learning`. UserError for `rollout.int8` on a GPU."""
    if recipe.rollout.int8 and policy.model.device.type != "cpu":
        raise UserError(f"rollout.int8 is for generating on a CPU; the model is on {policy.model.device.type}")
    model = policy.model
    return LocalEngine(
        model,
        policy.tokenizer,
        compute_dtype=dtype,
        max_batch_tokens=cached_tokens(model.config, recipe, dtype, model.device, learning=learning),
        int8=recipe.rollout.int8,
    )


def build_engine(recipe: Recipe, policy: Policy, dtype: torch.dtype, log: Path) -> Engine:
    """`rollout.engine`, generating in `dtype` with the policy's weights; a vLLM of the run's own writes to `log`."""
    if recipe.rollout.engine == "local":
        return local_engine(recipe, policy, dtype, learning=True)
    config = recipe.rollout.vllm
    if config.server:
        process = None
        client = Client(config.server, config.deadline, REMEDY)
    else:
        process = ServerProcess(
            str(policy.model.name_or_path),  # of a policy that was an adapter, its base
            dtype=str(dtype).removeprefix("torch."),
            memory=config.memory,
            log=log,
            deadline=config.deadline,
            gpu=policy.model.device.index,
        )
        client = Client(process.address, config.deadline, f"its log is {log}")
    engine = VllmEngine(client, policy.tokenizer, end_token_ids(policy.model, policy.tokenizer), process)
    engine.take_weights(merged_weights(policy.model), 0)
    return engine
