"""Which rollouts are compared with which."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Literal

from pydantic import Field, model_validator

from groupwise.config.section import NonNegative, Positive, Section

Cosine = Annotated[float, Field(ge=-1, le=1)]
LEARNED = ("clusters", "first_match")
USED_BY = {"thresholds": LEARNED, "weights": LEARNED, "adapt": ("clusters",), "fallback": ("clusters",)}


class WeightsConfig(Section):
    """Weights of the four similarities in their mean; what is not known of a prompt counts as average."""

    semantic: NonNegative = 0.8
    """What the prompts are about: their embeddings."""
    reward: NonNegative = 0.1
    """Mean of the rewards that the prompts had in earlier updates, as far as `advantage.history` keeps them."""
    complexity: NonNegative = 0.1
    """Difficulty where the data say it, length of the prompt, and of its completions in earlier updates."""
    time: NonNegative = 0.0
    """Closeness in time: the share of the run at which a prompt was last drawn."""

    @model_validator(mode="after")
    def _some_weight(self) -> WeightsConfig:
        if not any((self.semantic, self.reward, self.complexity, self.time)):
            raise ValueError("grouping.weights: all are 0; at least one must be above")
        return self


class GroupingConfig(Section):
    kind: Literal["prompt", "domain", "task", "clusters", "first_match"] = "task"
    """Levels above the prompt: none; domain; domain and task; domain and clusters; for comparison the first match."""
    thresholds: Annotated[list[Cosine], Field(min_length=1)] | None = None
    """Similarity that joins a cluster, falling, one a level, finest first; default: [0.7, 0.5], first_match [0.8]."""
    weights: WeightsConfig = WeightsConfig()
    embedding: Literal["policy", "sentence"] = "policy"
    """Prompt embeddings: the initial policy's hidden states, or all-MiniLM-L6-v2 (extra `groupwise[semantic]`)."""
    adapt: bool = True
    """clusters: split, merge and move where this predicts later rewards significantly better."""
    fallback: bool = True
    """clusters: use them only while they predict rewards better than random groups, the flat level and the prompt."""
    memory_mib: Positive | None = None
    """Free memory that the numbers of clusters and remembered prompts are fitted to; default: measured at the start."""

    @property
    def cosines(self) -> list[float]:
        """The thresholds, finest level first."""
        return self.thresholds or ([0.8] if self.kind == "first_match" else [0.7, 0.5])

    @model_validator(mode="after")
    def _thresholds_fall(self) -> GroupingConfig:
        given = self.cosines
        if any(finer <= coarser for finer, coarser in pairwise(given)):
            raise ValueError(f"grouping.thresholds {given} do not fall; the finest level comes first, e.g. [0.9, 0.7]")
        return self

    @model_validator(mode="after")
    def _keys_have_a_use(self) -> GroupingConfig:
        for name, kinds in USED_BY.items():
            if self.kind not in kinds and getattr(self, name) != type(self).model_fields[name].default:
                raise ValueError(
                    f"grouping.{name} belongs to kind {' or '.join(map(repr, kinds))}, not to {self.kind!r}"
                )
        return self
