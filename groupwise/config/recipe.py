"""The recipe: one validated object that says everything about a run. Imports no torch."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from groupwise.config.data import RewardConfig, SftDataConfig, TaskConfig
from groupwise.config.grouping import GroupingConfig
from groupwise.config.keeping import CheckpointConfig, FolderConfig, LogConfig, RunConfig
from groupwise.config.learning import AdvantageConfig, LoraConfig, LossConfig, SftUpdateConfig, UpdateConfig
from groupwise.config.rollout import EvalConfig, RolloutConfig
from groupwise.config.section import Positive, Section

WITHIN_PROMPT = ("grpo", "rloo")  # estimators whose advantages are 0 where a prompt's rewards are all equal


class Recipe(Section):
    """Everything about a GRPO run; every key can be overridden on the command line, e.g. `--loss.beta 0.04`."""

    model: Annotated[str, Field(min_length=1)] = "seedling"
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
    grouping: GroupingConfig = GroupingConfig()
    advantage: AdvantageConfig = AdvantageConfig()
    loss: LossConfig = LossConfig()
    lora: LoraConfig = LoraConfig()
    update: UpdateConfig = UpdateConfig()
    eval: EvalConfig = EvalConfig()
    checkpoint: CheckpointConfig = CheckpointConfig()
    log: LogConfig = LogConfig()

    @model_validator(mode="after")
    def _names_differ(self) -> Recipe:
        names = [task.name for task in self.tasks]
        if twice := [name for name in names if names.count(name) > 1]:
            raise ValueError(f"tasks: two are named {twice[0]!r}; each needs a name of its own")
        return self

    @model_validator(mode="after")
    def _sizes_divide(self) -> Recipe:
        n, g, m = self.rollout.batch_size, self.rollout.group_size, self.update.minibatches
        if self.rollout.zero_variance != "keep" and self.advantage.kind not in WITHIN_PROMPT:
            raise ValueError(
                f"rollout.zero_variance {self.rollout.zero_variance!r} does not fit advantage.kind "
                f"{self.advantage.kind!r}: under it groups without variance teach too; allowed with "
                f"{', '.join(WITHIN_PROMPT)}"
            )
        if g == 1 and self.advantage.kind in (*WITHIN_PROMPT, "ebpo"):
            raise ValueError(
                f"rollout.group_size 1 does not fit advantage.kind {self.advantage.kind!r}, which learns from "
                "siblings; take 2 or more, or advantage.kind hierarchical, global or spo"
            )
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

    @model_validator(mode="after")
    def _other_kernels_need_correction(self) -> Recipe:
        # what vLLM, or rounded weights, compute differs from what the learner computes: see docs/vllm.md
        if self.rollout.engine == "vllm" and self.rollout.int8:
            raise ValueError("rollout.int8 does not fit rollout.engine 'vllm'; allowed with local")
        if (self.rollout.engine == "vllm" or self.rollout.int8) and "old" not in self.loss.model_fields_set:
            object.__setattr__(self, "loss", self.loss.model_copy(update={"old": "learner"}))
        return self


class SftRecipe(Section):
    """Supervised fine-tuning on demonstrations, packed into rows."""

    model: Annotated[str, Field(min_length=1)] = "seedling"
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
    run: FolderConfig = FolderConfig()
    update: SftUpdateConfig = SftUpdateConfig()
    checkpoint: CheckpointConfig = CheckpointConfig()
    log: LogConfig = LogConfig()
