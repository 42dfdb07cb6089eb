"""Rollouts as micro-batches: every one once, in rows of bounded size, each value at its place."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from groupwise.learner.batch import COPIES, micro_batches
from groupwise.types import Rollout

from .cases import CPU, rollout

rollouts = st.builds(
    rollout,
    st.lists(st.integers(1, 95), min_size=1, max_size=20),
    st.lists(st.integers(1, 95), max_size=20),
    st.floats(-2, 2, width=32),
    st.booleans(),
)


def size(r: Rollout) -> int:
    return len(r.prompt.token_ids) + len(r.completion.token_ids)


@given(st.lists(rollouts, max_size=12), st.integers(1, 200), st.booleans())
def test_each_rollout_is_in_one_row_and_the_row_says_all_of_it(
    given_rollouts: list[Rollout], budget: int, mask_cut: bool
) -> None:
    batches = list(micro_batches(given_rollouts, budget, CPU, mask_cut=mask_cut))
    assert sorted(i for batch in batches for i in batch.index) == list(range(len(given_rollouts)))
    for batch in batches:
        input_ids = batch.inputs.given["input_ids"]
        assert len(input_ids) == 1 or input_ids.numel() <= budget
        states = torch.full(batch.mask.shape, -1).masked_scatter(batch.mask, batch.inputs.states)
        for row, index in enumerate(batch.index):
            r = given_rollouts[index]
            prompt, completion = list(r.prompt.token_ids), list(r.completion.token_ids)
            n = len(completion)
            assert input_ids[row].tolist() == prompt + completion + [0] * (input_ids.shape[1] - len(prompt) - n)
            assert batch.mask[row].tolist() == [True] * n + [False] * (batch.mask.shape[1] - n)
            assert batch.targets[row, :n].tolist() == completion
            assert torch.equal(batch.engine_logprobs[row, :n], torch.tensor(r.completion.logprobs))
            assert batch.advantages[row] == r.advantage
            masked = mask_cut and r.completion.finish_reason == "length"
            assert torch.equal(batch.learned[row], batch.mask[row] & (not masked))
            # the state before each completion token predicts it
            at = states[row, :n] - row * input_ids.shape[1]
            assert torch.equal(input_ids[row, at + 1], batch.targets[row, :n])


@given(st.lists(rollouts, min_size=1, max_size=12), st.integers(1, 200))
def test_rows_come_longest_first_so_that_the_first_pass_needs_the_most_memory(
    given_rollouts: list[Rollout], budget: int
) -> None:
    batches = list(micro_batches(given_rollouts, budget, CPU))
    lengths = [size(given_rollouts[i]) for batch in batches for i in batch.index]
    assert lengths == sorted(lengths, reverse=True)
    assert [batch.inputs.given["input_ids"].shape[1] for batch in batches] == [
        max(size(given_rollouts[i]) for i in batch.index) for batch in batches
    ]


def test_a_row_longer_than_the_budget_stands_alone() -> None:
    made = [rollout([1] * 10, [2] * 10), rollout([1], [2]), rollout([1], [2, 3])]
    assert [batch.index for batch in micro_batches(made, 8, CPU)] == [[0], [2, 1]]


def test_chosen_rollouts_only_and_values_of_all_of_them_padded() -> None:
    made = [rollout([1], [2] * n) for n in (3, 1, 2, 0)]
    (batch,) = micro_batches(made, 1000, CPU, chosen=range(1, 4))
    assert batch.index == [2, 1, 3]
    values = [torch.full((n,), float(n)) for n in (3, 1, 2, 0)]
    assert batch.pad(values).tolist() == [[2.0, 2.0], [1.0, 0.0], [0.0, 0.0]]


def test_nothing_gives_nothing() -> None:
    assert list(micro_batches([], 100, CPU)) == []


@given(st.lists(rollouts, max_size=12), st.integers(1, 200))
def test_siblings_share_their_prompt_and_nothing_is_padded(given_rollouts: list[Rollout], budget: int) -> None:
    siblings = [r for r in given_rollouts for _ in range(3)]
    batches = list(micro_batches(siblings, budget, CPU, shared=True))
    assert sorted(i for batch in batches for i in batch.index) == list(range(len(siblings)))
    for batch in batches:
        input_ids = batch.inputs.given["input_ids"]
        rows = [siblings[i] for i in batch.index]
        prompts = {r.prompt.token_ids for r in rows}
        assert input_ids.shape == (
            1,
            sum(map(len, prompts)) + sum(max(0, len(r.completion.token_ids) - 1) for r in rows),
        )
        counted = sum(min(len(prompt), budget // 2) for prompt in prompts) + sum(
            len(r.completion.token_ids) for r in rows
        )
        assert len(rows) == 1 or counted <= budget
        assert len(batch.inputs.states) == batch.mask.sum()


def test_what_siblings_copy_of_a_long_prompt_is_bounded() -> None:
    made = [rollout([1] * 100, [2]) for _ in range(50)]  # 150 tokens, but 5050 keys
    assert [len(batch.index) for batch in micro_batches(made, 160, CPU, shared=True)] == [12, 12, 12, 12, 2]
    assert 12 * 101 <= COPIES * 160 < 13 * 101


def test_siblings_of_a_prompt_as_long_as_a_micro_batch_pass_with_it_together() -> None:
    made = [rollout([1] * 1024, [2] * 64) for _ in range(8)]
    assert [len(batch.index) for batch in micro_batches(made, 1024, CPU, shared=True)] == [8]
    assert [len(batch.index) for batch in micro_batches(made, 512, CPU, shared=True)] == [4, 4]
    assert [len(batch.index) for batch in micro_batches(made, 64, CPU, shared=True)] == [1] * 8


def test_parts_are_whole_rows_of_so_many_tokens() -> None:
    (batch,) = micro_batches([rollout([1], [2] * n) for n in (4, 3, 2, 2, 0)], 1000, CPU, shared=True)
    assert [part.index for part, _ in batch.parts(5)] == [[0], [1, 2], [3, 4]]
    assert [(tokens.start, tokens.stop) for _, tokens in batch.parts(5)] == [(0, 4), (4, 9), (9, 11)]
    assert [part.index for part, _ in batch.parts(1)] == [[0], [1], [2], [3], [4]]
    ((whole, tokens),) = batch.parts(11)
    assert whole is batch
    assert tokens == slice(0, 11)
    for part, tokens in batch.parts(5):
        assert part.mask.sum() == tokens.stop - tokens.start
        assert part.mask.shape == part.targets.shape == part.learned.shape == part.engine_logprobs.shape
        assert torch.equal(part.advantages, batch.advantages[: len(part.index)])


def test_a_row_that_is_longer_than_a_part_may_come_in_pieces() -> None:
    made = [rollout([1], range(10, 10 + n)) for n in (7, 5, 2)]
    (batch,) = micro_batches(made, 1000, CPU, shared=True)
    assert [tokens for _, tokens in batch.parts(3)] == [slice(0, 7), slice(7, 12), slice(12, 14)]
    found = [*batch.parts(3, pieces=True)]
    assert [(part.index, tokens.start, tokens.stop) for part, tokens in found] == [
        ([0], 0, 3), ([0], 3, 6), ([0], 6, 7), ([1], 7, 10), ([1], 10, 12), ([2], 12, 14)
    ]  # fmt: skip
    values = [torch.arange(n) + 0.5 for n in (7, 5, 2)]
    for part, tokens in found:
        assert torch.equal(part.targets[part.mask], batch.targets[batch.mask][tokens])
        assert torch.equal(part.pad(values)[part.mask], batch.pad(values)[batch.mask][tokens])
        assert part.mask.shape == part.learned.shape == part.engine_logprobs.shape
