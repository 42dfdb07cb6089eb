"""The gradient of fine-tuning is that of the mean cross-entropy of each demonstration alone."""

from __future__ import annotations

from random import Random

import pytest
import torch
from torch import nn

from groupwise.learner import head
from groupwise.learner.forward import fitted
from groupwise.learner.packing import NOT_LEARNED, pack
from groupwise.learner.supervised import learn

from .cases import CPU, VOCABULARY, assert_same, flat_gradient
from .test_forward import gemma2

ROWS, LENGTH = 5, 24


def demonstrations(seed: int) -> list[tuple[list[int], int]]:
    rng = Random(seed)
    made = []
    for _ in range(10):
        size = rng.randint(2, 12)
        made.append(([rng.randrange(VOCABULARY) for _ in range(size)], rng.randint(1, size - 1)))
    return made


def gradient(model: nn.Module, micro_rows: int, seed: int = 0) -> tuple[float, torch.Tensor]:
    rows, taken = pack(demonstrations(seed), ROWS, LENGTH)
    assert taken == 10
    model.zero_grad()
    loss = learn(fitted(model, 1.0, torch.float32, siblings=False), rows, micro_rows, CPU)
    return loss, flat_gradient(model)


@pytest.mark.parametrize("seed", [0, 1])
def test_micro_rows_do_not_change_the_gradient(seed: int, model: nn.Module) -> None:
    loss, whole = gradient(model, ROWS, seed)
    for micro_rows in (1, 2, 3, 1000):
        other_loss, other = gradient(model, micro_rows, seed)
        assert other_loss == pytest.approx(loss, rel=1e-5)
        assert_same(other, whole)


def test_it_is_the_mean_over_all_learned_tokens_each_demonstration_alone(model: nn.Module) -> None:
    loss, packed = gradient(model, 2)
    model.zero_grad()
    losses = []
    for tokens, prompt_length in demonstrations(0):
        scores = model(input_ids=torch.tensor([tokens])).logits[0].log_softmax(-1)
        losses += [-scores[t - 1, tokens[t]] for t in range(prompt_length, len(tokens))]
    mean = torch.stack(losses).mean()
    mean.backward()
    assert loss == pytest.approx(float(mean.detach()), rel=1e-5)
    assert_same(packed, flat_gradient(model))


def test_rows_without_a_demonstration_add_nothing(model: nn.Module) -> None:
    rows, _ = pack([([1, 2, 3, 4], 2)], 1, LENGTH)
    forward = fitted(model, 1.0, torch.float32, siblings=False)
    loss = learn(forward, rows, 1, CPU)
    alone = flat_gradient(model)
    model.zero_grad()
    rows, _ = pack([([1, 2, 3, 4], 2)], 3, LENGTH)
    assert learn(forward, rows, 1, CPU) == pytest.approx(loss, rel=1e-6)
    assert_same(flat_gradient(model), alone)


def test_the_logits_of_more_than_a_slice_never_exist_together(
    model: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, whole = gradient(model, ROWS)
    monkeypatch.setattr(head, "SLICE_BYTES", 4 * VOCABULARY * 7)
    seen: list[int] = []
    model.get_output_embeddings().register_forward_hook(lambda _, states, out: seen.append(len(out)))  # type: ignore[operator]
    _, sliced = gradient(model, ROWS)
    assert max(seen[-6:]) == 7
    assert_same(sliced, whole)


def test_a_model_that_changes_its_logits_learns_from_them_as_they_are() -> None:
    torch.manual_seed(0)
    model = gemma2()
    loss, found = gradient(model, 2)
    rows, _ = pack(demonstrations(0), ROWS, LENGTH)
    model.zero_grad()
    logits = model(input_ids=rows.input_ids, position_ids=rows.position_ids, use_cache=False).logits
    mean = nn.functional.cross_entropy(logits.flatten(0, 1), rows.labels.flatten(), ignore_index=NOT_LEARNED)
    mean.backward()
    assert loss == pytest.approx(float(mean.detach()), rel=1e-5)
    assert_same(found, flat_gradient(model))
