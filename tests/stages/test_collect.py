"""What an update gathers: nothing is drawn forever, and a rollout without a reward counts nowhere as one of 0."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from run.threads import in_threads

from groupwise.config import RolloutConfig
from groupwise.run.world import World
from groupwise.stages.collect import Collected, Collector
from groupwise.tasks.mixture import Mixture
from groupwise.types import Completion, Prompt, Rollout, Sampling, UserError

from .inside import Mark, Marker


class Counting:
    """A task of `size` prompts that come again and again."""

    name = domain = "counting"

    def __init__(self, size: int) -> None:
        self.size = size

    def stream(self, seed: int, *, held_out: bool, cursor: int = 0) -> Any:
        return CountingStream(self.size, cursor)

    def score(self, prompt: Prompt, completion: str) -> float:
        return 0.0


class CountingStream:
    def __init__(self, size: int, cursor: int) -> None:
        self.size, self.cursor = size, cursor

    def __iter__(self) -> Iterator[Prompt]:
        return self

    def __next__(self) -> Prompt:
        text = str(self.cursor % self.size)
        self.cursor += 1
        return Prompt(id=text, task="counting", domain="counting", text=text)


class Parrot:
    """An engine whose completions are "prompt/key", of as many tokens as the key has digits."""

    def __init__(self) -> None:
        self.keys: list[int] = []

    def generate(self, prompts: Sequence[Prompt], keys: Sequence[int], sampling: Sampling) -> list[Completion]:
        self.keys += keys
        return [
            Completion(
                token_ids=(0,) * len(str(key)),
                logprobs=(0.0,) * len(str(key)),
                text=f"{prompt.text}/{key}",
                finish_reason="stop" if len(str(key)) < sampling.max_tokens else "length",
                policy_version=0,
            )
            for prompt, key in zip(prompts, keys, strict=True)
        ]

    def take_weights(self, tensors: Any, version: int) -> None: ...


class Letters:
    """A tokenizer that knows digits."""

    chat_template = None
    bos_token_id = None

    def __call__(self, text: str, **options: Any) -> dict[str, list[int]]:
        return {"input_ids": [int(c) for c in text]}


def collector(mark: Mark, size: int = 1000, world: World | None = None, **options: Any) -> tuple[Collector, Parrot]:
    config = RolloutConfig(**{"group_size": 2, "batch_size": 8, "max_tokens": 8, **options})
    marker: Any = Marker(mark)
    engine = Parrot()
    mixture = Mixture([Counting(size)], [1.0], 0)
    return Collector(config, 0, mixture, Letters(), engine, marker, world=world), engine


def with_context(context: int) -> Collector:
    """Of the numbers up to 19999, one token a digit."""
    marker: Any = Marker(by_key)
    config = RolloutConfig(group_size=2, batch_size=8, max_tokens=8)
    return Collector(config, 0, Mixture([Counting(20_000)], [1.0], 0), Letters(), Parrot(), marker, context)


def collect(made: Collector) -> Collected:
    """As Trainer.step does it."""
    collected = Collected()
    while count := made.missing(collected):
        rollouts = made.generate(made.draw(count))
        made.score(rollouts)
        made.sort(rollouts, collected, where="update 1")
    return collected


def by_key(prompt: Prompt, completion: str) -> float:
    """Every completion another reward."""
    return float(completion.split("/")[1])


def flat_when(flat: Callable[[int], bool]) -> Mark:
    """No variance for the prompts so chosen."""
    return lambda prompt, completion: 1.0 if flat(int(prompt.text)) else by_key(prompt, completion)


def prompts_of(rollouts: Sequence[Rollout]) -> list[int]:
    return [int(rollout.prompt.text) for rollout in rollouts]


def test_a_batch_is_drawn_once() -> None:
    collected = collect(collector(by_key)[0])
    assert prompts_of(collected.kept) == [0, 0, 1, 1, 2, 2, 3, 3]
    assert (collected.rounds, collected.discarded, collected.dropped) == (1, [], [])


def test_every_completion_of_a_run_has_its_own_random_stream() -> None:
    made, engine = collector(flat_when(lambda n: n < 3), zero_variance="redraw")
    collect(made)
    collect(made)
    assert engine.keys == list(range(len(engine.keys)))


@pytest.mark.parametrize("zero_variance", ["keep", "drop", "redraw"])
def test_groups_without_variance(zero_variance: str) -> None:
    collected = collect(collector(flat_when(lambda n: n in (1, 2, 4)), zero_variance=zero_variance)[0])
    assert {
        "keep": ([0, 0, 1, 1, 2, 2, 3, 3], [], 1),
        "drop": ([0, 0, 3, 3], [1, 1, 2, 2], 1),
        "redraw": ([0, 0, 3, 3, 5, 5, 6, 6], [1, 1, 2, 2, 4, 4], 3),
    }[zero_variance] == (prompts_of(collected.kept), prompts_of(collected.discarded), collected.rounds)
    assert len(collected.all) == len(collected.kept) + len(collected.discarded)


def test_redrawing_ends() -> None:
    made, _ = collector(lambda prompt, completion: 1.0, zero_variance="redraw", max_redraws=3)
    collected = collect(made)
    assert (collected.rounds, len(collected.kept), len(collected.discarded)) == (4, 0, 32)


def test_a_prompt_that_comes_twice_is_not_drawn_for_again() -> None:
    """A small family gives some prompts twice in a batch; the batch must not grow beyond its size."""
    made, _ = collector(by_key, size=3, zero_variance="redraw")
    collected = collect(made)
    assert prompts_of(collected.kept) == [0, 0, 1, 1, 2, 2, 0, 0]
    assert collected.rounds == 1


def test_a_prompt_that_was_discarded_may_come_again() -> None:
    made, _ = collector(flat_when(lambda n: n == 1), size=5, zero_variance="redraw")
    collected = collect(made)
    assert prompts_of(collected.kept) == [0, 0, 2, 2, 3, 3, 4, 4]
    assert collected.rounds == 2
    collected = collect(made)  # starts with prompt 0 again
    assert prompts_of(collected.kept) == [0, 0, 2, 2, 3, 3, 4, 4]


def test_dropped_rollouts_lead_to_no_more_drawing() -> None:
    """Else an environment that is down would be asked again and again."""

    def mark(prompt: Prompt, completion: str) -> float | str:
        number, key = map(int, completion.split("/"))
        if number == 0 or (number == 1 and key == 2):  # all of prompt 0, half of prompt 1
            return "judge: timeout after 1 s"
        return 1.0 if number == 2 else float(key)

    collected = collect(collector(mark, zero_variance="redraw")[0])
    assert prompts_of(collected.dropped) == [0, 0, 1]
    # one that lost its siblings has no variance either: discarded, but its prompt is not replaced
    assert prompts_of(collected.discarded) == [1, 2, 2]
    assert prompts_of(collected.kept) == [3, 3, 4, 4]
    assert collected.rounds == 2


def test_a_round_may_fail_where_others_did_not() -> None:
    """A redraw of one prompt that times out must not end a run whose other rollouts are fine."""

    def mark(prompt: Prompt, completion: str) -> float | str:
        if int(prompt.text) == 4:
            return "judge: timeout after 1 s"
        return flat_when(lambda n: n == 1)(prompt, completion)

    collected = collect(collector(mark, zero_variance="redraw")[0])
    assert prompts_of(collected.kept) == [0, 0, 2, 2, 3, 3]
    assert prompts_of(collected.dropped) == [4, 4]


def test_when_not_one_rollout_could_be_scored_the_reasons_are_told() -> None:
    made, _ = collector(lambda prompt, completion: "judge: raised ValueError: no digits")
    with pytest.raises(
        UserError, match=r"every rollout of update 1 failed: judge raised ValueError: no digits \(8 of 8\)"
    ):
        collect(made)


def test_the_overlong_penalty_is_a_reward_of_its_own() -> None:
    def mark(prompt: Prompt, completion: str) -> float | str:
        return "gone" if prompt.text == "1" else 0.5

    made, engine = collector(mark, overlong="penalise", overlong_buffer=2, max_tokens=3)
    made.load_state({**made.state(), "generated": 98})
    collected = collect(made)
    assert engine.keys == list(range(98, 106))  # two digits, then three
    lengths = [len(rollout.completion.token_ids) for rollout in collected.kept]
    assert lengths == [2, 2, 3, 3, 3, 3]
    assert [rollout.rewards for rollout in collected.kept] == [
        {"marks": 0.5, "overlong": -0.5 if length == 2 else -1.0} for length in lengths
    ]
    assert [rollout.reward for rollout in collected.kept] == [0.0 if length == 2 else -0.5 for length in lengths]
    assert all(rollout.rewards == {} for rollout in collected.dropped)


@pytest.mark.parametrize("overlong", ["keep", "mask"])
def test_without_a_penalty_no_reward_is_added(overlong: str) -> None:
    collected = collect(collector(by_key, overlong=overlong)[0])
    assert all(rollout.rewards.keys() == {"marks"} for rollout in collected.kept)


def test_every_place_in_the_batch_has_its_turn_to_be_asked_twice() -> None:
    marker: Any = Marker(by_key)
    config, mixture = RolloutConfig(group_size=1, batch_size=8, max_tokens=8), Mixture([Counting(1000)], [1.0], 0)
    made = Collector(config, 0, mixture, Letters(), Parrot(), marker, repeat=0.15)
    twice = []
    for update in range(7):
        asked = Counter(int(rollout.prompt.text) - 7 * update for rollout in collect(made).all)
        assert sorted(asked.values()) == [1] * 6 + [2]
        twice += [place for place, times in asked.items() if times == 2]
    assert sorted(twice) == list(range(7))


def test_prompts_that_do_not_fit_are_skipped_and_counted() -> None:
    made = with_context(12)  # 8 of them for the completion, so that 9999 is the last number that fits
    made.load_state({**made.state(), "mixture": {"drawn": [9998], "cursors": [9998]}})
    assert [prompt.text for prompt in made.draw(2)] == ["9998", "9999"]
    made.load_state({**made.state(), "mixture": {"drawn": [19_998], "cursors": [19_998]}})
    assert [prompt.text for prompt in made.draw(3)] == ["0", "1", "2"]  # after 19998 and 19999 the numbers start anew
    assert made.skipped == 2
    again = with_context(12)
    again.load_state(made.state())
    assert again.skipped == 2


def test_when_no_prompt_fits_the_run_gives_up() -> None:
    with pytest.raises(
        UserError, match=r"1\d\d\d prompts in a row are longer than the 0 tokens that .* leaves of the model"
    ):
        with_context(8).draw(4)


def test_a_restored_collector_goes_on_as_the_first_one() -> None:
    def made() -> Collector:
        return collector(flat_when(lambda n: n % 3 == 0), zero_variance="redraw")[0]

    first, second = made(), made()
    collect(first)
    second.load_state(first.state())
    texts = [[rollout.completion.text for rollout in collect(each).all] for each in (first, second)]
    assert texts[0] == texts[1]
    assert len(texts[0]) > 8


@pytest.mark.parametrize("broken", ["_engine", "_scorer"])
def test_what_fails_in_one_process_ends_the_update_in_all(broken: str) -> None:
    def work(world: World) -> Collected:
        made, _ = collector(by_key, world=world)
        if world.rank == 1:
            setattr(made, broken, None)
        return collect(made)

    first, second = in_threads(work)
    assert isinstance(second, AttributeError)
    assert isinstance(first, UserError)
    assert str(first).startswith("process 1: AttributeError: ")
