"""How completions are generated and evaluated."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import Field, field_validator

from groupwise.config.section import Positive, Section, Share


class VllmConfig(Section):
    server: str | None = None
    """engine vllm: host:port of a running server on this machine; default: the run starts one of its own."""
    memory: Annotated[float, Field(gt=0, lt=1)] = 0.3
    """Share of the GPU's memory, or without one of the machine's, for vLLM in a server of the run's own."""
    deadline: Annotated[float, Field(gt=0)] = 600.0
    """Seconds that vLLM may take to start, to generate an update's completions, or to take new weights."""

    @field_validator("server")
    @classmethod
    def _has_a_port(cls, server: str | None) -> str | None:
        if server is not None and not re.fullmatch(r"[^:/\s]+:\d{1,5}", server):
            raise ValueError(f"rollout.vllm.server: {server!r} is not host:port, e.g. 127.0.0.1:8734")
        return server


class RolloutConfig(Section):
    engine: Literal["local", "vllm"] = "local"
    """What generates: the live model itself, or vLLM (extra `groupwise[vllm]`; default of `loss.old`: learner)."""
    vllm: VllmConfig = VllmConfig()
    int8: bool = False
    """engine local on a CPU: decode with weights rounded to 8 bits (default of `loss.old`: learner); docs/speed.md."""
    group_size: Positive = 8
    """Completions a prompt (G); 1 to 4 suit hierarchical, 8 those that know siblings only (grpo, rloo)."""
    batch_size: Positive = 128
    """Rollouts an update (N); a multiple of group_size."""
    repeat: Share = 0.15
    """hierarchical, group_size 1: share of the prompts drawn twice, which alone tell noise from difficulty."""
    max_tokens: Positive = 128
    """Longest completion, in tokens."""
    temperature: Annotated[float, Field(gt=0)] = 1.0
    """Sampling temperature; log-probs are of logits / temperature."""
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Keep the smallest set of tokens with this probability; 1 is off."""
    top_k: Annotated[int, Field(ge=0)] = 0
    """Keep this many most likely tokens; 0 is off."""
    stop: list[Annotated[str, Field(min_length=1)]] = []
    """Strings that end a completion."""
    overlong: Literal["keep", "mask", "penalise"] = "keep"
    """Completions cut at max_tokens: keep their reward, mask them out of the loss, or subtract DAPO's soft penalty."""
    overlong_buffer: Annotated[int, Field(ge=0)] = 0
    """penalise: tokens before max_tokens over which the penalty grows from 0 to 1; 0 penalises only the cut ones."""
    zero_variance: Literal["keep", "drop", "redraw"] = "keep"
    """Groups whose rewards are all equal: keep, drop, or redraw other prompts (DAPO's dynamic sampling); counted."""
    max_redraws: Positive = 4
    """redraw: at most this many extra rounds of generation an update."""


class EvalConfig(Section):
    every: Annotated[int, Field(ge=0)] = 0
    """Updates between evaluations; 0: only before and after."""
    prompts: Annotated[int, Field(ge=0)] = 300
    """Held-out prompts a task; 0: no evaluation at all."""
    samples: Positive = 1
    """Completions a prompt; more than one also gives pass@k and majority votes."""
    seed: Annotated[int, Field(ge=0)] = 990
    """Chooses the held-out prompts and the sampling."""
    temperature: Annotated[float, Field(gt=0)] = 1.0
    """Sampling temperature of evaluations."""
