"""How advantages become an update of the policy."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from groupwise.config.section import NonNegative, Positive, Section

SCALES = {
    "hierarchical": ("running", "none", "batch"),
    "global": ("none", "batch"),
    "jspo": ("none", "batch"),
    "ebpo": ("none", "batch"),
    "spo": ("none",),
}


class AdvantageConfig(Section):
    kind: Literal["hierarchical", "grpo", "rloo", "global", "jspo", "ebpo", "spo", "group_mean"] = "hierarchical"
    """Estimator of the advantage."""
    scale: Literal["none", "group", "batch", "running"] | None = None
    """Divide by the standard deviation of the prompt's rewards, the batch's, past batches'; default: by estimator."""
    transfer: Literal["none", "kernel", "threshold"] = "none"
    """hierarchical: what similar groups lend: as fitted (kernel), or .3 x similarity above .6 (threshold)."""
    history: Annotated[int, Field(ge=0)] = 16384
    """Prompts whose past rewards are remembered; 0: none."""

    @model_validator(mode="after")
    def _scale_fits(self) -> AdvantageConfig:
        # where a prompt's rewards are all equal, most still have advantages and their deviation is 0
        allowed = SCALES.get(self.kind, ("none", "group", "batch"))
        if self.scale and self.scale not in allowed:
            raise ValueError(
                f"advantage.scale {self.scale!r} does not fit kind {self.kind!r}; allowed: {', '.join(allowed)}"
            )
        if self.transfer == "threshold" and self.scale == "running":
            raise ValueError("advantage.scale 'running' does not fit transfer 'threshold'; allowed: none, batch")
        if self.transfer != "none" and self.kind != "hierarchical":
            raise ValueError(
                f"advantage.transfer {self.transfer!r} belongs to kind 'hierarchical', not to {self.kind!r}"
            )
        return self


class LossConfig(Section):
    kind: Literal["grpo", "dapo", "dr_grpo", "gspo", "cispo", "ppo"] = "dapo"
    """Policy loss."""
    clip_low: NonNegative | None = None
    """The ratio is clipped below at 1 - clip_low; default: the loss's own."""
    clip_high: NonNegative | None = None
    """The ratio is clipped above at 1 + clip_high; default: the loss's own."""
    beta: NonNegative = 0.0
    """Weight of the KL divergence from the reference policy; 0: no reference is kept."""
    kl: Literal["k1", "k2", "k3", "k3_corrected"] = "k3"
    """Estimator of the KL divergence; k1 goes into the reward, the others into the loss."""
    old: Literal["engine", "learner"] = "engine"
    """Old log-probs: the engine's, or the learner's with truncated importance sampling, the default with vllm."""
    importance_cap: Annotated[float, Field(gt=0)] = 2.0
    """old: learner; the token loss is multiplied by min(old / engine, this)."""


class LoraConfig(Section):
    rank: Annotated[int, Field(ge=0)] = 0
    """Rank of the adapters; 0: all weights are trained."""
    alpha: Annotated[float, Field(gt=0)] | None = None
    """What the adapters add is scaled by alpha / rank; default: twice the rank."""
    targets: list[str] = []
    """Layers that get adapters, e.g. [q_proj]; default: every linear one but the head; fused experts only by name."""
    merge: bool = True
    """Export the model with the adapters merged in, beside the adapter; false: `model/` is the adapter alone."""


class OptimizerConfig(Section):
    learning_rate: Annotated[float, Field(gt=0)] = 1e-6
    """Peak learning rate of AdamW."""
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    """How the rate falls after the warm-up."""
    warmup: Annotated[int, Field(ge=0)] = 0
    """Updates over which the rate rises from 0."""
    max_grad_norm: Annotated[float, Field(gt=0)] = 1.0
    """Gradients are clipped to this norm."""
    weight_decay: NonNegative = 0.0
    """Decoupled weight decay, not applied to norms and biases."""
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = (0.9, 0.95)
    """AdamW's decay rates of the moments."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Compute type; weights that are trained stay float32. auto: bfloat16 where the machine has it."""


class UpdateConfig(OptimizerConfig):
    epochs: Positive = 1
    """Passes over each batch of rollouts."""
    minibatches: Positive = 1
    """Optimizer steps a pass; batch_size must be a multiple."""
    micro_tokens: Positive | None = None
    """Tokens of one forward and backward pass, of which a prompt that siblings share counts for half at most; does not
    change the gradient. Default: by device and free memory."""
    gradient_checkpointing: bool = False
    """Keep few activations and compute them again in the backward pass: less memory, about a third more time."""


class SftUpdateConfig(OptimizerConfig):
    learning_rate: Annotated[float, Field(gt=0)] = 1e-4
    """Peak learning rate of AdamW."""
