"""How completions are generated and evaluated."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from groupwise.config.section import Positive, Section


class RolloutConfig(Section):
    engine: Literal["local", "vllm"] = "local"
    """What generates: the live model itself, or vLLM (extra `groupwise[vllm]`)."""
    group_size: Positive = 8
    """Completions a prompt (G)."""
    batch_size: Positive = 128
    """Rollouts an update (N); a multiple of group_size."""
    max_tokens: Positive = 128
    """Longest completion, in tokens."""
    temperature: Annotated[float, Field(gt=0)] = 1.0
    """Sampling temperature; log-probs are of logits / temperature."""
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Keep the smallest set of tokens with this probability; 1 is off."""
    top_k: Annotated[int, Field(ge=0)] = 0
    """Keep this many most likely tokens; 0 is off."""
    stop: list[str] = []
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
    prompts: Positive = 300
    """Held-out prompts a task."""
    samples: Positive = 1
    """Completions a prompt."""
    seed: Annotated[int, Field(ge=0)] = 990
    """Chooses the held-out prompts and the sampling."""
    temperature: Annotated[float, Field(gt=0)] = 1.0
    """Sampling temperature of evaluations."""
