"""How a model can be decoded, tried on a few tokens: what models say of themselves need not hold for custom code."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from groupwise.attention import UnsupportedError, ordinary
from groupwise.rollout.grouped import GroupedDecoder
from groupwise.rollout.plain import PlainDecoder, Prefix, read
from groupwise.rollout.products import Forward, instead
from groupwise.rollout.thin import thin
from groupwise.types import UserError

LAYERS = (DynamicLayer, DynamicSlidingWindowLayer)  # that see all of the past, or a window of it
REFUSALS = (UnsupportedError, TypeError, ValueError, RuntimeError, AttributeError, IndexError)
PROMPTS = ((1, 2, 3), (4, 3, 2, 1, 5))
ROWS = (1, 0, 1)  # the prompt of each row
FOLLOWING = ((6, 7), (1, 4), (2, 6))  # tokens of each row


def may_share(model: nn.Module, device: torch.device) -> bool:
    """Whether rows may share their prompts' keys: the logits are those of the model without a cache.

    Raises UserError where not even the plain decoder gives these.
    """
    prompts, following = _few_tokens(model, device)
    exact = all(weights.dtype is torch.float32 for weights in model.parameters())
    kind = device.type
    mixed = torch.is_autocast_enabled(kind) and not exact
    with torch.autocast(kind, torch.get_autocast_dtype(kind), enabled=mixed):
        right = _without_cache(model, prompts, following)

        def error(decoder: type[GroupedDecoder | PlainDecoder], prefix: Prefix) -> float:
            rows = decoder(model, prefix, torch.tensor(ROWS, device=device))
            found = torch.stack([rows.step(tokens) for tokens in following.unbind(1)], dim=1).float()
            return float((found - right).norm() / right.norm())

        tolerance = 1e-3 if exact else 5e-2
        try:
            # far beyond what rounding does, even where it sends tokens to other experts
            wrong = error(PlainDecoder, read(model, prompts, device)) > 10 * tolerance
        except REFUSALS as refusal:
            raise _unusable(model, f": {' '.join(str(refusal).split())}") from refusal
        if wrong:
            raise _unusable(model, "")
        prefix = read(model, prompts, device)
        if not ordinary(model) or not all(type(layer) in LAYERS for layer in prefix.cache.layers):
            return False
        try:
            return error(GroupedDecoder, prefix) <= tolerance
        except REFUSALS:
            return False


def may_be_thin(model: nn.Module, device: torch.device) -> bool:
    """Whether a step says the same where linear layers leave their results in another order in memory; see thin.py."""
    prompts, following = _few_tokens(model, device)

    def step(products: list[Forward]) -> Tensor:
        rows = PlainDecoder(model, read(model, prompts, device), torch.tensor(ROWS, device=device))
        with instead(products):
            return rows.step(following[:, 0])

    try:
        right, found = step([]), step(thin(model))
    except REFUSALS:
        return False
    return bool((found - right).norm() <= 1e-3 * right.norm())


def _few_tokens(model: nn.Module, device: torch.device) -> tuple[list[tuple[int, ...]], Tensor]:
    """Prompts, and the tokens [B, 2] that follow in each row, of the first of the vocabulary."""
    few = min(8, model.config.get_text_config().vocab_size)  # type: ignore[operator, union-attr]
    prompts = [tuple(token % few for token in prompt) for prompt in PROMPTS]
    return prompts, torch.tensor(FOLLOWING, device=device) % few


def _without_cache(model: nn.Module, prompts: list[tuple[int, ...]], following: Tensor) -> Tensor:
    """[B, 2, V] logits after each of the following tokens [B, 2]."""
    starts = [len(prompts[prompt]) for prompt in ROWS]
    tokens = following.new_zeros(len(ROWS), max(starts) + following.shape[1])  # filled up behind, where nobody looks
    for row, (prompt, start) in enumerate(zip(ROWS, starts, strict=True)):
        tokens[row, :start] = tokens.new_tensor(prompts[prompt])
        tokens[row, start : start + following.shape[1]] = following[row]
    logits: Tensor = model(input_ids=tokens, use_cache=False).logits.float()
    return torch.stack([logits[row, start : start + following.shape[1]] for row, start in enumerate(starts)])


def _unusable(model: nn.Module, why: str) -> UserError:
    return UserError(
        f"model: {type(model).__name__} does not say with a cache what it says without one, so the local engine cannot "
        f"generate with it{why}"
    )
