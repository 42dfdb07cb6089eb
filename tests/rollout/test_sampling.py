"""Random streams of rows, and draws that follow exactly the distribution they should."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from groupwise.rollout.sampling import LARGE, _ranked, draw, log_probs, splitmix64, uniforms
from groupwise.types import UserError

MANY = 40_000
LIKELY = 1e-4  # a right sampler fails one test in ten thousand; the seeds are fixed, so it fails never or always
INT64 = st.integers(-(2**63), 2**63 - 1)


def test_the_streams_are_splitmix64() -> None:
    # the first numbers of java.util.SplittableRandom's generator for seed 1234567
    expected = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431]
    bits = splitmix64(torch.tensor(1234567), torch.arange(4)).tolist()
    assert [b % 2**64 for b in bits] == expected


@given(seed=INT64, keys=st.lists(INT64, min_size=1, max_size=5), length=st.integers(1, 6))
def test_a_number_depends_only_on_seed_key_and_position(seed: int, keys: list[int], length: int) -> None:
    together = uniforms(seed, keys, length + 3)
    alone = torch.cat([uniforms(seed, [key], length) for key in keys])
    assert torch.equal(together[:, :length], alone)
    assert bool(((together >= 0) & (together < 1)).all())


def test_large_seeds_wrap() -> None:
    assert torch.equal(uniforms(2**70 + 5, [2**64 + 3], 4), uniforms(5, [3], 4))


def test_numbers_are_uniform() -> None:
    assert stats.kstest(uniforms(1, range(200), 200).flatten().numpy(), "uniform").pvalue > LIKELY


@pytest.mark.parametrize("what", ["positions", "keys", "seeds"])
def test_neighbours_are_independent(what: str) -> None:
    if what == "positions":
        numbers = uniforms(1, range(200), 201)
        left, right = numbers[:, :-1], numbers[:, 1:]
    elif what == "keys":
        numbers = uniforms(1, range(201), 200)
        left, right = numbers[:-1], numbers[1:]
    else:
        left = torch.cat([uniforms(seed, [5], 200) for seed in range(200)])
        right = torch.cat([uniforms(seed + 1, [5], 200) for seed in range(200)])
    counts, _, _ = np.histogram2d(left.flatten().numpy(), right.flatten().numpy(), bins=8, range=[[0, 1], [0, 1]])
    assert stats.chisquare(counts.flatten()).pvalue > LIKELY


def test_seed_and_key_do_not_stand_for_each_other() -> None:
    numbers = torch.stack([uniforms(seed, range(30), 2) for seed in range(30)])
    assert len(numbers.unique()) == numbers.numel()


def kept(logits: torch.Tensor, top_k: int, top_p: float) -> torch.Tensor:
    """The distribution [V] that is left of logits [V], token by token."""
    order = logits.argsort(descending=True).tolist()
    if top_k:
        order = order[:top_k]
    probs = logits.softmax(-1).double()
    mass, stay = sum(float(probs[i]) for i in order), []
    for i in order:
        if stay and sum(float(probs[j]) for j in stay) >= top_p * mass:
            break
        stay.append(i)
    result = torch.zeros_like(probs)
    result[stay] = probs[stay]
    return result / result.sum()


@pytest.mark.parametrize(
    ("top_k", "top_p", "temperature"),
    [(0, 1.0, 1.0), (0, 1.0, 0.5), (3, 1.0, 1.0), (0, 0.7, 1.0), (5, 0.8, 2.0), (99, 1.0, 1.0), (99, 0.5, 1.0)],
)
def test_draws_follow_the_distribution(top_k: int, top_p: float, temperature: float) -> None:
    logits = torch.randn(12, generator=torch.Generator().manual_seed(3)) * 1.5
    scores = log_probs(logits.expand(MANY, -1), temperature)
    drawn = draw(scores, uniforms(7, range(MANY), 1)[:, 0], top_k=top_k, top_p=top_p)
    expected = kept(logits / temperature, top_k, top_p).numpy()
    observed = np.bincount(drawn.numpy(), minlength=12)
    assert set(np.flatnonzero(observed)) == set(np.flatnonzero(expected))
    possible = expected > 0
    assert stats.chisquare(observed[possible], expected[possible] * MANY).pvalue > LIKELY


@pytest.mark.parametrize("size", [LARGE, LARGE + 1, 2 * LARGE, 3 * LARGE - 7])
def test_draws_from_a_large_vocabulary_are_those_of_one_long_sum(size: int) -> None:
    scores = torch.randn(50, size, generator=torch.Generator().manual_seed(1)).mul(4).log_softmax(-1)
    scores[:, 100:900] = -torch.inf  # whole blocks without mass
    uniform = uniforms(3, range(50), 1)[:, 0]
    uniform[:2] = torch.tensor([0.0, 1.0])
    probs = scores.exp().double().numpy()
    expected = [
        min(int(np.searchsorted(p.cumsum(), float(u) * p.sum(), side="right")), int(np.flatnonzero(p)[-1]))
        for p, u in zip(probs, uniform, strict=True)
    ]
    assert draw(scores, uniform).tolist() == expected


@pytest.mark.parametrize("top_p", [0.3, 0.9, 0.999])
@pytest.mark.parametrize("flat", [0, 1], ids=["", "a row that needs all"])
def test_the_likeliest_of_a_large_vocabulary_are_those_of_all(top_p: float, flat: int) -> None:
    scores = torch.randn(50, 2 * LARGE, generator=torch.Generator().manual_seed(1)).mul(4).log_softmax(-1)
    scores[:flat] = -math.log(2 * LARGE)
    uniform = uniforms(3, range(50), 1)[:, 0]
    ranked, order = scores.sort(dim=-1, descending=True, stable=True)
    probs = ranked.double().softmax(-1)
    nucleus = probs.masked_fill(probs.cumsum(-1) - probs >= top_p, 0)
    at = torch.searchsorted(nucleus.cumsum(-1), uniform[:, None] * nucleus.sum(-1, keepdim=True), right=True)
    expected = order.gather(-1, at)[:, 0]
    assert int((draw(scores, uniform, top_p=top_p) == expected).sum()) >= 49  # a float32 sum may end a token away
    assert (_ranked(scores, top_p)[0].shape[1] < 2 * LARGE) == (flat == 0 and top_p < 0.99)


def test_log_probs_are_of_the_scaled_logits_in_float32() -> None:
    logits = torch.randn(3, 9).bfloat16()
    scores = log_probs(logits, 0.5)
    assert scores.dtype == torch.float32
    torch.testing.assert_close(scores, (logits.float() * 2).log_softmax(-1))


@pytest.mark.parametrize("top_k", [0, 3])
@pytest.mark.parametrize("top_p", [1.0, 0.9])
def test_a_token_without_probability_never_comes(top_k: int, top_p: float) -> None:
    scores = torch.tensor([[-torch.inf, 0.0, -torch.inf, -torch.inf]]).expand(4, -1)
    uniform = torch.tensor([0.0, 0.5, 1 - 2.0**-53, 1.0], dtype=torch.float64)  # 1 itself never comes, but might round
    assert draw(scores, uniform, top_k=top_k, top_p=top_p).tolist() == [1, 1, 1, 1]


def test_the_likeliest_stays_however_small_top_p() -> None:
    scores = torch.tensor([[0.1, 0.5, 0.4]]).log()
    assert draw(scores, torch.tensor([0.99], dtype=torch.float64), top_p=1e-9).tolist() == [1]


def test_a_model_that_has_diverged() -> None:
    with pytest.raises(UserError, match="not finite"):
        draw(torch.full((2, 3), torch.nan), torch.zeros(2, dtype=torch.float64))
