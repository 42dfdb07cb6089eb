"""The recipe: one validated object that says everything about a run. Imports no torch."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Positive = Annotated[int, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]
NonNegative = Annotated[float, Field(ge=0)]


class Section(BaseModel):
    """A part of the recipe. Unknown keys are errors; values do not change after validation."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False, protected_namespaces=()
    )


class RunConfig(Section):
    dir: str | None = None
    """The run's own folder; default `runs/<recipe's stem>`."""
    rollouts: bool = True
    """Keep every rollout as Parquet under `rollouts/`."""
    report: bool = True
    """Write `report.html` when the run ends."""


class TaskConfig(Section):
    name: str
    """Name in metrics and reports."""
    family: str | None = None
    """reasoning-gym family; default: the name."""
    weight: Annotated[float, Field(gt=0)] = 1.0
    """Share of the prompts, relative to the other tasks."""
    params: dict[str, Any] = {}
    """The family's own parameters, e.g. {min_terms: 2, max_terms: 4}."""


class RewardConfig(Section):
    name: str
    """Name in metrics and reports."""
    function: str = "task"
    """`task` (the task's own scorer) or `module:function`, called as function(prompt, completion): runs that code."""
    weight: float = 1.0
    """Weight in the sum that becomes the reward."""
    deadline: Annotated[float, Field(gt=0)] = 5.0
    """Seconds one call may take; past it the rollout is dropped and counted."""


class SftDataConfig(Section):
    """Either a file of demonstrations or a reasoning-gym family that has worked solutions."""

    name: str
    """Name in metrics."""
    file: str | None = None
    """JSONL with `prompt` and `completion` in each record; default: demonstrations of the family."""
    family: str | None = None
    """reasoning-gym family; default: the name."""
    params: dict[str, Any] = {}
    """The family's own parameters."""
    weight: Annotated[float, Field(gt=0)] = 1.0
    """Share of the demonstrations, relative to the other sources."""
    styles: dict[Literal["careful", "hasty", "shortcut", "slip"], NonNegative] = {"careful": 1.0}
    """Shares of careful (every step), hasty (some steps), shortcut (answer only) and slip (wrong) demonstrations."""


class RolloutConfig(Section):
    engine: Literal["local"] = "local"
    """Where completions are generated."""
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


class AdvantageConfig(Section):
    kind: Literal["grpo", "rloo", "global"] = "rloo"
    """Estimator of the advantage."""
    scale: Literal["none", "group", "batch"] | None = None
    """Divide by the standard deviation of the prompt's group or the batch; default: the estimator's own."""

    @model_validator(mode="after")
    def _scale_fits(self) -> AdvantageConfig:
        # where a prompt's rewards are all equal, `global` still has advantages and their deviation is 0
        if self.kind == "global" and self.scale == "group":
            raise ValueError("scale 'group' does not fit kind 'global'; allowed: none, batch")
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
    """Old log-probs: the engine's, or the learner's, corrected by truncated importance sampling."""
    importance_cap: Annotated[float, Field(gt=0)] = 2.0
    """old: learner; the token loss is multiplied by min(old / engine, this)."""


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
    """Compute type; weights and optimizer stay float32. auto: bfloat16 where the machine has it."""


class UpdateConfig(OptimizerConfig):
    epochs: Positive = 1
    """Passes over each batch of rollouts."""
    minibatches: Positive = 1
    """Optimizer steps a pass; batch_size must be a multiple."""
    micro_tokens: Positive = 8192
    """Padded tokens of one forward and backward pass; does not change the gradient."""


class SftUpdateConfig(OptimizerConfig):
    learning_rate: Annotated[float, Field(gt=0)] = 1e-4
    """Peak learning rate of AdamW."""


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


class CheckpointConfig(Section):
    every: Annotated[int, Field(ge=0)] = 20
    """Updates between checkpoints; 0: only at the end or when interrupted."""
    keep: Positive = 2
    """Checkpoints kept, newest first."""


class LogConfig(Section):
    tensorboard: bool = False
    """Also write TensorBoard events (extra `groupwise[tensorboard]`)."""
    wandb: str | None = None
    """Also log to this Weights & Biases project (extra `groupwise[wandb]`)."""
    trackio: str | None = None
    """Also log to this trackio project (extra `groupwise[trackio]`)."""


class Recipe(Section):
    """Everything about a GRPO run; every key can be overridden on the command line, e.g. `--loss.beta 0.04`."""

    model: str = "seedling"
    """`seedling` (embedded), a Hugging Face folder, or a hub id."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Fixes prompts, sampling and everything else that is drawn."""
    steps: Positive = 100
    """Updates of the policy."""
    threads: Annotated[int, Field(ge=0)] = 0
    """CPU threads; 0: one per core."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where the policy lives."""
    tasks: list[TaskConfig] = []
    """What is trained on."""
    rewards: list[RewardConfig] = [RewardConfig(name="accuracy")]
    """Named rewards; their weighted sum is the reward."""
    run: RunConfig = RunConfig()
    rollout: RolloutConfig = RolloutConfig()
    advantage: AdvantageConfig = AdvantageConfig()
    loss: LossConfig = LossConfig()
    update: UpdateConfig = UpdateConfig()
    eval: EvalConfig = EvalConfig()
    checkpoint: CheckpointConfig = CheckpointConfig()
    log: LogConfig = LogConfig()

    @model_validator(mode="after")
    def _sizes_divide(self) -> Recipe:
        n, g, m = self.rollout.batch_size, self.rollout.group_size, self.update.minibatches
        if n % g:
            raise ValueError(f"rollout.batch_size {n} is not a multiple of rollout.group_size {g}")
        if n % m:
            raise ValueError(f"rollout.batch_size {n} is not a multiple of update.minibatches {m}")
        if self.rollout.overlong_buffer > self.rollout.max_tokens:
            raise ValueError(
                f"rollout.overlong_buffer {self.rollout.overlong_buffer} is more than rollout.max_tokens "
                f"{self.rollout.max_tokens}"
            )
        return self


class SftRecipe(Section):
    """Supervised fine-tuning on demonstrations, packed into rows."""

    model: str = "seedling"
    """`seedling` (embedded), a Hugging Face folder, or a hub id."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Fixes the order and the drawn demonstrations."""
    steps: Positive = 100
    """Optimizer steps."""
    threads: Annotated[int, Field(ge=0)] = 0
    """CPU threads; 0: one per core."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where the policy lives."""
    data: list[SftDataConfig] = []
    """Sources of demonstrations, mixed by weight."""
    length: Positive = 512
    """Tokens of a packed row; longer demonstrations are dropped and counted."""
    rows: Positive = 32
    """Packed rows an optimizer step."""
    micro_rows: Positive = 8
    """Rows of one forward and backward pass; fewer need less memory, and the gradient stays the same."""
    run: RunConfig = RunConfig()
    update: SftUpdateConfig = SftUpdateConfig()
    checkpoint: CheckpointConfig = CheckpointConfig()
    log: LogConfig = LogConfig()
