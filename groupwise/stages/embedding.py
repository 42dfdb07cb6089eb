"""What prompts are about, for whoever groups them: by the policy before its first update, or by a sentence model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from groupwise.config import Recipe
from groupwise.learner import lora
from groupwise.rollout.embedding import PromptEmbeddings, Vectors, embed, first_layers
from groupwise.rollout.sentence import sentence_encoder
from groupwise.stages.comparison import needs_embeddings
from groupwise.types import Prompt


def build_embeddings(recipe: Recipe, model: Any) -> PromptEmbeddings | None:
    """None where the recipe's groups and estimator never look at them. `model` has not learned yet."""
    if not needs_embeddings(recipe):
        return None
    if recipe.grouping.embedding == "sentence":
        sentences = sentence_encoder()
        return PromptEmbeddings(lambda prompts: sentences([prompt.text for prompt in prompts]))
    if not lora.attached(model):
        frozen = first_layers(model)
        return PromptEmbeddings(lambda prompts: embed(frozen, [prompt.token_ids for prompt in prompts]))

    def without_adapters(prompts: Sequence[Prompt]) -> Vectors:
        with lora.switched_off(model) as base:
            decoder: Any = base
            return embed(decoder.get_decoder(), [prompt.token_ids for prompt in prompts])

    return PromptEmbeddings(without_adapters)
