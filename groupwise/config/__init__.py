"""The recipe, section by section. Imports no torch."""

from groupwise.config.data import DataConfig, RewardConfig, SftDataConfig, TaskConfig
from groupwise.config.grouping import GroupingConfig, WeightsConfig
from groupwise.config.keeping import CheckpointConfig, LogConfig, RunConfig
from groupwise.config.learning import (
    AdvantageConfig,
    LoraConfig,
    LossConfig,
    OptimizerConfig,
    SftUpdateConfig,
    UpdateConfig,
)
from groupwise.config.recipe import Recipe, SftRecipe
from groupwise.config.rollout import EvalConfig, RolloutConfig, VllmConfig
from groupwise.config.section import Section

__all__ = [
    "AdvantageConfig",
    "CheckpointConfig",
    "DataConfig",
    "EvalConfig",
    "GroupingConfig",
    "LogConfig",
    "LoraConfig",
    "LossConfig",
    "OptimizerConfig",
    "Recipe",
    "RewardConfig",
    "RolloutConfig",
    "RunConfig",
    "Section",
    "SftDataConfig",
    "SftRecipe",
    "SftUpdateConfig",
    "TaskConfig",
    "UpdateConfig",
    "VllmConfig",
    "WeightsConfig",
]
