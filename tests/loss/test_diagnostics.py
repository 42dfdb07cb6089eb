"""Clip fraction and ratios."""

from __future__ import annotations

import pytest
import torch

from groupwise.loss import ratio_diagnostics

from .cases import KINDS, from_ratios, loss_and_gradient, options, random_case


def diagnose(kind: str, ratios: list[list[float]], advantages: list[float]) -> dict[str, float]:
    result = ratio_diagnostics(**from_ratios(ratios, advantages), kind=kind, clip_low=0.2, clip_high=0.2)
    return {name: value.item() for name, value in result.items()}


def test_pinned() -> None:
    result = diagnose("dapo", [[1.5, 0.5, 1.0], [1.5, 0.5]], [1.0, -2.0])
    expected = {"clip_low": 0.2, "clip_high": 0.2, "clip_fraction": 0.4, "ratio_mean": 1.0, "ratio_max": 1.5}
    assert result == pytest.approx(expected)


def test_gspo_counts_the_tokens_of_clipped_rows() -> None:
    result = diagnose("gspo", [[4.0, 1.0], [1.0]], [1.0, 1.0])
    assert result["clip_high"] == pytest.approx(2 / 3)
    assert result["ratio_mean"] == pytest.approx((2 + 2 + 1) / 3)


def test_cispo_cuts_above_whatever_the_sign() -> None:
    result = diagnose("cispo", [[1.5, 0.5], [1.5, 0.5]], [1.0, -2.0])
    assert (result["clip_low"], result["clip_high"]) == pytest.approx((0.0, 0.5))


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "cispo"])
def test_clipped_is_what_gets_no_gradient(kind: str) -> None:
    case = random_case(12, batch=20, spread=1.0)
    _, gradient = loss_and_gradient(case.arguments(), **options(kind))
    keywords = {name: value for name, value in options(kind).items() if name != "max_length"}
    result = ratio_diagnostics(**case.arguments(), **keywords)
    torch.testing.assert_close(result["clip_fraction"], (gradient[case.mask] == 0).float().mean())
    assert 0 < result["clip_fraction"] < 1


def test_nothing_valid_is_all_zero() -> None:
    for shape in ((2, 3), (0, 3), (2, 0)):
        x = torch.zeros(shape)
        result = ratio_diagnostics(x, x, torch.zeros(shape[0]), x, kind="grpo", clip_low=0.2, clip_high=0.2)
        assert all(value == 0 for value in result.values())
