"""Prompt embeddings by the policy as it was before its first update, so that they never drift.

Once the policy learns, its initial weights are gone, and prompts that were not drawn yet still need them. So they are
kept, at the least price:

- with LoRA they are the frozen weights themselves: `embed` the live model with its adapters switched off;
- else `first_layers` copies the input embeddings and the first half of the layers before the first update. That is less
  than half of the weights, without gradients or optimizer states; the states in the middle of a language model separate
  kinds of prompts as well as the last ones do. A resumed run copies them from the recipe's `model`, before it loads its
  checkpoint.

Hidden states of language models all share one large component. Without it unrelated prompts have similarity near 0, and
the same thresholds suit any model: `PromptEmbeddings` subtracts the mean of the first prompts it is given.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from groupwise.types import UserError

Vectors = NDArray[np.float32]
Encode = Callable[[Sequence[Any]], Vectors]  # prompts [P], as token ids or text -> [P, E]


@torch.no_grad()
def embed(decoder: nn.Module, prompts: Sequence[Sequence[int]], rows: int = 32) -> Vectors:
    """[P, E] float32: the mean over a prompt's tokens of the decoder's last hidden state, scaled to length 1.

    `decoder` gives hidden states, not logits: a model's `get_decoder()`, or `first_layers`. Prompts of similar length
    run together, `rows` at a time, padded on the right.
    """
    device = next(decoder.parameters()).device
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    out: list[Vectors] = [np.zeros(0, np.float32)] * len(prompts)
    for start in range(0, len(order), rows):
        chosen = order[start : start + rows]
        width = max(1, len(prompts[chosen[-1]]))
        ids = torch.zeros(len(chosen), width, dtype=torch.long)
        mask = torch.zeros(len(chosen), width, dtype=torch.long)
        for row, i in enumerate(chosen):
            ids[row, : len(prompts[i])] = torch.tensor(prompts[i], dtype=torch.long)
            mask[row, : len(prompts[i])] = 1
        mask[:, 0] = 1  # of an empty prompt too something must be seen
        ids, mask = ids.to(device), mask.to(device)
        states = decoder(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state.float()
        means = (states * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
        for i, mean in zip(chosen, nn.functional.normalize(means, dim=-1).cpu().numpy(), strict=True):
            out[i] = mean
    return np.stack(out) if out else np.zeros((0, 0), np.float32)


def first_layers(model: Any, count: int | None = None) -> nn.Module:
    """A frozen copy of the input embeddings and the first `count` layers of `model`; default: half, rounded up.

    It shares no memory with the model. Raises UserError for a model whose layers are not one list.
    """
    decoder = model.get_decoder()
    depth = decoder.config.num_hidden_layers
    lists = [name for name, part in decoder.named_children() if isinstance(part, nn.ModuleList) and len(part) == depth]
    if len(lists) != 1:
        raise UserError(
            f"grouping.embedding: 'policy' finds no list of {depth} layers in {type(decoder).__name__}; use 'sentence'"
        )
    layers, kept = getattr(decoder, lists[0]), (depth + 1) // 2 if count is None else count
    setattr(decoder, lists[0], layers[:kept])  # so that the others are never copied
    try:
        frozen: Any = copy.deepcopy(decoder)
    finally:
        setattr(decoder, lists[0], layers)
    frozen.config.num_hidden_layers = kept
    return frozen.requires_grad_(False).eval()  # type: ignore[no-any-return]


class PromptEmbeddings:
    """Embeddings by prompt, each computed once while it is among the `most` last asked for; part of the checkpoint."""

    def __init__(self, encode: Encode, most: int = 8192) -> None:
        self._encode, self._most = encode, most
        self._known: dict[str, Vectors] = {}  # those not asked for longest come first
        self._centre: Vectors | None = None  # [E]

    def __call__(self, keys: Sequence[str], prompts: Sequence[Any]) -> Vectors:
        """[P, E] float32, centred, of length 1, of prompts [P] with `keys` [P]; `encode` sees those not known."""
        missing = {key: ids for key, ids in zip(keys, prompts, strict=True) if key not in self._known}
        fresh = dict(zip(missing, self._encode(list(missing.values())), strict=True)) if missing else {}
        if self._centre is None and len(fresh) > 1:
            self._centre = np.stack(list(fresh.values())).mean(0, dtype=np.float64).astype(np.float32)
        found = fresh | {key: self._known.pop(key) for key in dict.fromkeys(keys) if key in self._known}
        self._known |= {key: found[key] for key in dict.fromkeys(keys)}
        for key in list(self._known)[: max(0, len(self._known) - self._most)]:
            del self._known[key]
        raw = np.stack([found[key] for key in keys]) if len(keys) else np.zeros((0, 0), np.float32)
        centred = raw if self._centre is None or not len(keys) else raw - self._centre
        return np.asarray(centred / np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-12), np.float32)

    def state(self) -> dict[str, Any]:
        vectors = np.stack(list(self._known.values())) if self._known else np.zeros((0, 0), np.float32)
        centre = None if self._centre is None else self._centre.copy()
        return {"keys": list(self._known), "vectors": vectors, "centre": centre}

    def load_state(self, state: Mapping[str, Any]) -> None:
        self._known = dict(zip(state["keys"], np.array(state["vectors"], np.float32), strict=True))
        self._centre = None if state["centre"] is None else np.array(state["centre"], np.float32)
