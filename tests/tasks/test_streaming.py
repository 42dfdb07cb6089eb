"""Streamed data: passes that continue exactly, sides that never meet, and an end where there is nothing."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count, islice
from typing import Any

import datasets
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from groupwise.config import DataConfig
from groupwise.tasks.data import DataTask, data_task
from groupwise.tasks.streaming import BUFFER, PASS
from groupwise.types import Prompt, UserError

SIZE = 2 * BUFFER + 500


def streamed(size: int = SIZE, shards: int = 3) -> Any:
    rows = [{"prompt": f"{i}"} for i in range(size)]
    return datasets.Dataset.from_list(rows).to_iterable_dataset(num_shards=shards)


def task(data: Any, **keys: Any) -> DataTask:
    return data_task("t", data, DataConfig(path="data", **keys))


def texts(of: DataTask, seed: int, most: int, *, held_out: bool = False, cursor: int = 0) -> list[str]:
    return [prompt.text for prompt in islice(of.stream(seed, held_out=held_out, cursor=cursor), most)]


def test_each_pass_has_every_training_prompt_in_an_order_of_its_own() -> None:
    of = task(streamed(60), held_out=0.0)
    drawn = texts(of, 0, 180)
    passes = [tuple(drawn[i : i + 60]) for i in (0, 60, 120)]
    assert all(sorted(one) == sorted(map(str, range(60))) for one in passes)
    assert len(set(passes)) == 3
    assert drawn != texts(of, 1, 180)


@settings(max_examples=8)
@given(st.integers(0, 2 * SIZE))
def test_a_stream_goes_on_from_its_cursor(before: int) -> None:
    of = task(streamed())
    stream = of.stream(3, held_out=False)
    list(islice(stream, before))
    cursor = stream.cursor
    assert texts(of, 3, 40, cursor=cursor) == [prompt.text for prompt in islice(stream, 40)]


def test_the_sides_never_meet() -> None:
    of = task(streamed(400))
    held_out = texts(of, 0, 10_000, held_out=True)
    trained = texts(of, 0, 800)
    assert len(held_out) == len(set(held_out)) > 20
    assert sorted({*held_out, *trained}) == sorted(map(str, range(400)))
    assert not {*held_out} & {*trained}
    assert texts(of, 9, 5, held_out=True) == held_out[:5]
    assert texts(of, 0, 5, held_out=True, cursor=5) == held_out[5:10]


def test_a_held_out_split_is_taken_out_of_training() -> None:
    data = {"train": streamed(50), "test": streamed(8)}
    of = task(data, held_out_split="test")
    assert sorted(texts(of, 0, 100, held_out=True)) == sorted(map(str, range(8)))
    assert sorted(texts(of, 0, 42)) == sorted(map(str, range(8, 50)))


def test_data_without_an_end() -> None:
    def naturals() -> Iterator[dict[str, str]]:
        for number in count():
            yield {"prompt": str(number)}

    of = task(datasets.IterableDataset.from_generator(naturals))
    assert len(texts(of, 0, 50)) == len(texts(of, 0, 50, held_out=True)) == 50
    assert texts(task(datasets.IterableDataset.from_generator(naturals), held_out=0.0), 0, 1, held_out=True) == []


def test_nothing_to_train_on_is_the_end() -> None:
    of = task(streamed(5), held_out=1.0)
    assert texts(of, 0, 1) == []
    assert len(texts(of, 0, 9, held_out=True)) == 5
    stream = task(streamed(5), held_out=0.0).stream(0, held_out=False, cursor=5)  # at the end of a pass
    assert isinstance(next(stream), Prompt)
    assert stream.cursor == PASS + 1


def test_a_record_that_makes_no_prompt() -> None:
    with pytest.raises(UserError, match="task t: data: a record has no column `question`; it has: prompt"):
        next(task(streamed(5), prompt="question").stream(0, held_out=False))
