"""Equality with TRL 1.16: its own GRPOTrainer._compute_loss is called on the same tensors."""

from __future__ import annotations

import warnings
from collections import defaultdict
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from groupwise.loss import loss_denominator, policy_loss, ratio_diagnostics

from .cases import MAX_LENGTH, Case, loss_and_gradient, options, random_case

TRL_KINDS = ("grpo", "dapo", "dr_grpo", "gspo", "cispo")


@pytest.fixture(scope="module")
def trainer_class() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pytest.importorskip("trl")
        from trl.trainer.grpo_trainer import GRPOTrainer
    return GRPOTrainer


def trl_trainer(kind: str, *, beta: float, corrected: bool, weighted: bool, steps: int = 1) -> Any:
    """What _compute_loss reads of its trainer; `steps` micro-batches make an optimizer step."""
    keywords = options(kind)
    accelerator = SimpleNamespace(
        num_processes=1, gather=lambda x: x, reduce=lambda x, reduction: x, gather_for_metrics=lambda x: x
    )
    return SimpleNamespace(
        # gspo in TRL is grpo's loss with a ratio a sequence
        loss_type="grpo" if kind == "gspo" else kind,
        importance_sampling_level="sequence" if kind == "gspo" else "token",
        epsilon_low=keywords["clip_low"],
        epsilon_high=keywords["clip_high"] + (1 if kind == "cispo" else 0),
        beta=beta,
        args=SimpleNamespace(use_bias_correction_kl=corrected, delta=None, steps_per_generation=steps),
        max_completion_length=MAX_LENGTH,
        current_gradient_accumulation_steps=steps,
        use_vllm=weighted,
        vllm_importance_sampling_correction=weighted,
        top_entropy_quantile=1.0,
        off_policy_mask_threshold=None,
        aux_loss_enabled=False,
        _entropy_bonus_enabled=False,
        _metrics=defaultdict(lambda: defaultdict(list)),
        model=SimpleNamespace(training=True),
        accelerator=accelerator,
        _get_per_token_logps_and_entropies=lambda model, *args, **kwargs: (model, torch.zeros_like(model), None),
    )


def trl_loss(trainer_class: Any, trainer: Any, case: Case, rows: slice, weights: Tensor, items: int) -> Tensor:
    """The "model" of the trainer above is the log-probs themselves."""
    ids, mask = torch.zeros_like(case.mask[rows], dtype=torch.long), case.mask[rows].long()
    inputs = {
        "prompt_ids": ids[:, :1],
        "prompt_mask": ids[:, :1],
        "completion_ids": ids,
        "completion_mask": mask,
        "advantages": case.advantages[rows],
        "old_per_token_logps": case.old_logprobs[rows],
        "ref_per_token_logps": case.ref_logprobs[rows],
        "importance_sampling_ratio": weights[rows],
        "num_items_in_batch": torch.tensor(items),
    }
    result: Tensor = trainer_class._compute_loss(trainer, case.logprobs[rows], inputs)
    return result


def variants() -> list[Any]:
    """(kind, kl or None): gspo's corrected KL is left out, see `test_gspo_departs_from_trl_in_the_corrected_kl`."""
    pairs = [(kind, kl) for kind in TRL_KINDS for kl in (None, "k3", "k3_corrected")]
    return [pair for pair in pairs if pair != ("gspo", "k3_corrected")]


def both(
    trainer_class: Any, kind: str, kl: str | None, case: Case, weighted: bool = False
) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """(loss, gradient) of TRL and of ours."""
    case.logprobs.requires_grad_()
    weights = (case.old_logprobs - case.ref_logprobs).exp().clamp(max=2)
    beta = 0.0 if kl is None else 0.3
    trainer = trl_trainer(kind, beta=beta, corrected=kl == "k3_corrected", weighted=weighted)
    theirs = trl_loss(trainer_class, trainer, case, slice(None), weights, int(case.mask.sum()))
    (gradient,) = torch.autograd.grad(theirs, case.logprobs)
    ours = loss_and_gradient(
        case.arguments(),
        **options(
            kind, beta=beta, kl=kl or "k3", ref_logprobs=case.ref_logprobs, weights=weights if weighted else None
        ),
    )
    return (theirs.detach(), gradient), ours


@pytest.mark.parametrize(("kind", "kl"), variants())
@pytest.mark.parametrize("per_token", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
def test_loss_and_gradient_equal_trl(
    trainer_class: Any, kind: str, kl: str | None, per_token: bool, weighted: bool
) -> None:
    for seed in range(5):
        case = random_case(seed, batch=8, length=10, per_token=per_token, spread=0.5)
        theirs, ours = both(trainer_class, kind, kl, case, weighted)
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", TRL_KINDS)
def test_gradient_accumulation_equals_trl(trainer_class: Any, kind: str) -> None:
    case = random_case(7, batch=8, length=10)
    case.logprobs.requires_grad_()
    items = int(case.mask.sum())
    trainer = trl_trainer(kind, beta=0.1, corrected=False, weighted=False, steps=2)
    parts = [slice(0, 4), slice(4, 8)]
    theirs = [trl_loss(trainer_class, trainer, case, rows, case.mask.float(), items) for rows in parts]
    keywords = options(kind, beta=0.1, denominator=loss_denominator(kind, case.mask))
    ours = [policy_loss(**case.arguments(rows), ref_logprobs=case.ref_logprobs[rows], **keywords) for rows in parts]
    (theirs_gradient,) = torch.autograd.grad(theirs[0] + theirs[1], case.logprobs)
    (ours_gradient,) = torch.autograd.grad(ours[0] + ours[1], case.logprobs)
    torch.testing.assert_close(ours_gradient, theirs_gradient, rtol=1e-5, atol=1e-6)


def test_gspo_departs_from_trl_in_the_corrected_kl(trainer_class: Any) -> None:
    """TRL weights each token's KL by the sequence's ratio, and its gradient is wrong; we weight it by the token's."""
    theirs, ours = both(trainer_class, "gspo", "k3_corrected", random_case(0, batch=8, length=10, spread=0.5))
    assert (theirs[0] - ours[0]).abs() > 1e-3


@pytest.mark.parametrize("kind", ["grpo", "dapo", "dr_grpo"])
def test_clip_fractions_equal_trl(trainer_class: Any, kind: str) -> None:
    case = random_case(3, batch=8, length=10, spread=0.5)
    trainer = trl_trainer(kind, beta=0.0, corrected=False, weighted=False)
    trl_loss(trainer_class, trainer, case, slice(None), case.mask.float(), int(case.mask.sum()))
    keywords = {name: value for name, value in options(kind).items() if name != "max_length"}
    ours = ratio_diagnostics(**case.arguments(), **keywords)
    for name, trl_name in (("clip_low", "low_mean"), ("clip_high", "high_mean"), ("clip_fraction", "region_mean")):
        assert ours[name].item() == pytest.approx(trainer._metrics["train"][f"clip_ratio/{trl_name}"][0])
        assert ours[name] > 0
