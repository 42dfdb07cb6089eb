"""What every loss must do, whatever its kind."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from groupwise.loss import DEFAULT_CLIP, loss_denominator, policy_loss

from .cases import KINDS, PER_COMPLETION, loss_and_gradient, options, random_case

QUICK = settings(max_examples=12, deadline=None)
seeds = st.integers(0, 10_000)
kls = st.sampled_from([None, "k2", "k3", "k3_corrected"])
every_kind = pytest.mark.parametrize("kind", KINDS)


def close(a: Tensor, b: Tensor) -> None:
    """Relative norm 1e-5."""
    torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5 * max(float(b.norm()), 1e-3))


@every_kind
@QUICK
@given(seed=seeds, kl=kls, per_token=st.booleans(), cut=st.integers(1, 4))
def test_micro_batches_change_neither_value_nor_gradient(
    kind: str, seed: int, kl: str | None, per_token: bool, cut: int
) -> None:
    case = random_case(seed, per_token=per_token)
    case.logprobs.requires_grad_()
    weights = case.logprobs.detach().exp()
    count = loss_denominator(kind, case.mask)

    def loss(rows: slice, width: int | None, denominator: float | Tensor | None) -> Tensor:
        kl_part: dict[str, Any] = (
            {} if kl is None else {"ref_logprobs": case.ref_logprobs[rows, :width], "beta": 0.3, "kl": kl}
        )
        keywords = options(kind, denominator=denominator, weights=weights[rows, :width], **kl_part)
        return policy_loss(**case.arguments(rows, width), **keywords)

    whole = loss(slice(None), None, None)
    (gradient,) = torch.autograd.grad(whole, case.logprobs)
    # a micro-batch is also padded less than the batch
    parts = [slice(0, cut), slice(cut, None)]
    widths = [int(case.mask[rows].sum(-1).max()) for rows in parts]
    total = sum(loss(rows, width, count) for rows, width in zip(parts, widths, strict=True))
    assert isinstance(total, Tensor)
    (summed,) = torch.autograd.grad(total, case.logprobs)
    close(total.detach(), whole.detach())
    close(summed, gradient)
    assert sum(loss_denominator(kind, case.mask[rows]) for rows in parts) == count


@every_kind
@QUICK
@given(seed=seeds, order=st.permutations(range(5)))
def test_the_order_of_rows_does_not_matter(kind: str, seed: int, order: list[int]) -> None:
    case = random_case(seed)
    value, gradient = loss_and_gradient(case.arguments(), **options(kind))
    permuted_value, permuted = loss_and_gradient(case.arguments(order), **options(kind))
    close(permuted_value, value)
    close(permuted, gradient[order])


@every_kind
@QUICK
@given(seed=seeds, kl=kls, per_token=st.booleans(), junk=st.sampled_from([math.nan, math.inf, -math.inf, 1e30]))
def test_padding_may_hold_anything(kind: str, seed: int, kl: str | None, per_token: bool, junk: float) -> None:
    case = random_case(seed, per_token=per_token)
    keywords = options(kind, kl=kl or "k3", beta=0.0 if kl is None else 0.3)
    clean, soiled = case.arguments(), dict(case.arguments())
    extra = {"ref_logprobs": case.ref_logprobs, "weights": case.old_logprobs.exp()}
    for name, values in clean.items():
        if name != "mask" and values.ndim == 2:
            soiled[name] = values.masked_fill(~case.mask, junk)
    soiled_extra = {name: values.masked_fill(~case.mask, junk) for name, values in extra.items()}
    value, gradient = loss_and_gradient(clean, **keywords, **extra)
    soiled_value, soiled_gradient = loss_and_gradient(soiled, **keywords, **soiled_extra)
    assert soiled_value == value
    assert torch.equal(soiled_gradient, gradient)
    assert (gradient[~case.mask] == 0).all()
    assert gradient.isfinite().all()


@every_kind
def test_an_empty_row_adds_nothing_and_an_empty_batch_is_zero(kind: str) -> None:
    case = random_case(0)
    count = loss_denominator(kind, case.mask)
    with_empty, _ = loss_and_gradient(case.arguments(), **options(kind, denominator=count))
    without, _ = loss_and_gradient(case.arguments(slice(0, -1)), **options(kind, denominator=count))
    close(with_empty, without)
    keywords = options(kind, ref_logprobs=case.ref_logprobs, beta=1.0)
    for denominator in (None, 0, torch.tensor(0)):
        value, gradient = loss_and_gradient(
            {**case.arguments(), "mask": torch.zeros(5, 6)}, **keywords, denominator=denominator
        )
        assert value == 0
        assert (gradient == 0).all()
    for shape in ((0, 6), (5, 0)):
        nothing = torch.zeros(shape)
        assert policy_loss(nothing, nothing, torch.zeros(shape[0]), nothing, **options(kind)) == 0


@every_kind
def test_the_mask_may_be_of_any_type_and_the_denominator_a_number_or_a_tensor(kind: str) -> None:
    case = random_case(1)
    value, _ = loss_and_gradient(case.arguments(), **options(kind))
    count = loss_denominator(kind, case.mask)
    assert count == (5 if kind in PER_COMPLETION else int(case.mask.sum()))
    for mask in (case.mask.float(), case.mask.long(), case.mask.bfloat16()):
        assert loss_and_gradient({**case.arguments(), "mask": mask}, **options(kind))[0] == value
        assert loss_denominator(kind, mask) == count
    for denominator in (count, float(count), torch.tensor(count), torch.tensor([float(count)])):
        result = loss_and_gradient(case.arguments(), **options(kind, denominator=denominator))[0]
        assert result.shape == ()
        close(result, value)
    assert loss_and_gradient(case.arguments(), **options(kind, denominator=2 * count))[0] == value / 2


@every_kind
@QUICK
@given(seed=seeds)
def test_one_advantage_a_row_is_the_same_advantage_at_each_token(kind: str, seed: int) -> None:
    case = random_case(seed)
    expanded = {**case.arguments(), "advantages": case.advantages[:, None].expand(5, 6)}
    for a, b in zip(
        loss_and_gradient(case.arguments(), **options(kind)), loss_and_gradient(expanded, **options(kind)), strict=True
    ):
        assert torch.equal(a, b)


@every_kind
def test_the_result_has_the_dtype_of_the_input_but_at_least_float32(kind: str) -> None:
    case = random_case(2)
    for given_dtype, expected in ((torch.bfloat16, torch.float32), (torch.float32,) * 2, (torch.float64,) * 2):
        arguments = {**case.arguments(), "logprobs": case.logprobs.to(given_dtype)}
        value, gradient = loss_and_gradient(arguments, **options(kind, ref_logprobs=case.ref_logprobs, beta=0.1))
        assert value.dtype == expected
        assert gradient.dtype == given_dtype


@every_kind
def test_weights_multiply_the_policy_term_only(kind: str) -> None:
    case = random_case(4)
    weights = torch.full((5, 6), 3.0, requires_grad=True)
    policy, policy_gradient = loss_and_gradient(case.arguments(), **options(kind))
    kl_part = {"ref_logprobs": case.ref_logprobs, "beta": 0.5}
    both, both_gradient = loss_and_gradient(case.arguments(), **options(kind, **kl_part))
    weighted, weighted_gradient = loss_and_gradient(case.arguments(), **options(kind, weights=weights, **kl_part))
    close(weighted - both, 2 * policy)
    close(weighted_gradient - both_gradient, 2 * policy_gradient)
    assert weights.grad is None


@every_kind
def test_only_logprobs_gets_a_gradient(kind: str) -> None:
    case = random_case(5)
    for values in (case.old_logprobs, case.ref_logprobs, case.advantages):
        values.requires_grad_()
    loss_and_gradient(case.arguments(), **options(kind, ref_logprobs=case.ref_logprobs, beta=0.5, kl="k3_corrected"))
    assert case.old_logprobs.grad is None
    assert case.ref_logprobs.grad is None
    assert case.advantages.grad is None


@every_kind
@pytest.mark.parametrize("kl", ["k2", "k3", "k3_corrected"])
@pytest.mark.parametrize("distance", [-300.0, 300.0])
def test_ratios_beyond_the_range_of_floats_give_no_nan(kind: str, kl: str, distance: float) -> None:
    case = random_case(6)
    arguments = {**case.arguments(), "old_logprobs": case.logprobs + distance}
    reference = {"ref_logprobs": case.logprobs + distance, "beta": 0.1, "kl": kl}
    value, gradient = loss_and_gradient(arguments, **options(kind, **reference))
    assert value.isfinite()
    assert gradient.isfinite().all()


def test_default_clips() -> None:
    assert DEFAULT_CLIP == {
        "grpo": (0.2, 0.2),
        "dapo": (0.2, 0.28),
        "dr_grpo": (0.2, 0.2),
        "gspo": (3e-4, 4e-4),
        "cispo": (0.2, 4.0),
        "ppo": (0.2, 0.2),
    }


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "trpo"}, r"unknown loss 'trpo'; allowed: grpo, dapo, dr_grpo, gspo, cispo, ppo"),
        ({"kind": "dr_grpo", "max_length": None}, "dr_grpo needs max_length"),
        ({"beta": 0.1}, "ref_logprobs .* is needed"),
        ({"beta": -0.1}, "beta is -0.1"),
        ({"beta": math.nan}, "beta is nan"),
        ({"beta": 0.1, "ref_logprobs": torch.zeros(2, 3), "kl": "k1"}, "k1 goes into the reward.*k2, k3, k3_corrected"),
        ({"beta": 0.1, "ref_logprobs": torch.zeros(2, 3), "kl": "k4"}, "'k4'.*allowed: k2, k3, k3_corrected"),
        ({"beta": 0.1, "ref_logprobs": torch.zeros(2, 4)}, r"ref_logprobs is \[2, 4\].*\[2, 3\]"),
        ({"clip_low": -0.1}, "clip_low is -0.1"),
        ({"clip_high": -0.1}, "clip_high -0.1"),
        ({"clip_high": math.nan}, "clip_high nan"),
        ({"logprobs": torch.zeros(6)}, r"logprobs is torch.float32 \[6\]"),
        ({"logprobs": torch.zeros(2, 3, dtype=torch.long)}, "logprobs is torch.int64"),
        ({"old_logprobs": torch.zeros(2, 1)}, r"old_logprobs is \[2, 1\].*\[2, 3\]"),
        ({"mask": torch.ones(3, 2)}, r"mask is \[3, 2\].*\[2, 3\]"),
        ({"advantages": torch.zeros(3)}, r"advantages is \[3\].*\[2\].*\[2, 3\]"),
        ({"advantages": torch.zeros(2, 1)}, r"advantages is \[2, 1\]"),
        ({"weights": torch.ones(2)}, r"weights is \[2\]"),
        ({"denominator": -1}, "denominator is -1"),
        ({"denominator": torch.ones(2)}, r"denominator is \[2\]"),
    ],
)
def test_errors_name_what_is_wrong(changes: dict[str, Any], message: str) -> None:
    zeros = torch.zeros(2, 3)
    valid = {"logprobs": zeros, "old_logprobs": zeros, "advantages": torch.zeros(2), "mask": torch.ones(2, 3)}
    with pytest.raises(ValueError, match=message):
        policy_loss(**{**valid, **options("dapo"), **changes})


def test_the_denominator_helper_names_what_is_wrong() -> None:
    with pytest.raises(ValueError, match="unknown loss 'trpo'"):
        loss_denominator("trpo", torch.ones(2, 3))
    with pytest.raises(ValueError, match=r"mask is \[3\]"):
        loss_denominator("grpo", torch.ones(3))
