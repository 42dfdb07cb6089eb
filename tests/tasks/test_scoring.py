"""A reward that fails costs its own rollouts and nothing else. Real processes, short deadlines."""

import time
from pathlib import Path

import pytest

from groupwise.tasks.scoring import Scorer, all_failed, drops
from groupwise.types import Rollout

from .cases import reward, rollouts, scored

pytestmark = pytest.mark.usefixtures("bad_rewards_on_path")


@pytest.mark.parametrize(
    ("does", "dropped"),
    [
        ("spin", "r: timeout after 0.5 s"),
        ("sleep", "r: timeout after 0.5 s"),
        ("exit", "r: died (exit code 3)"),
        ("segfault", "r: died (signal SIGSEGV)"),
        ("raise news", "r: raised ValueError: bad news"),
        ("sys.exit", "r: raised SystemExit: enough"),
        ("unprintable", "r: raised _Unprintable"),
        ("nan", "r: returned nan"),
        ("inf", "r: returned inf"),
        ("string", "r: returned str: '1.0' is not a number"),
        ("list", "r: returned list: [1.0] is not a number"),
        ("memory", "r: raised MemoryError"),
        ("input", "r: raised EOFError: EOF when reading a line"),
        ("none", "unscored"),
    ],
)
def test_a_failure_costs_its_own_rollout(scorer: Scorer, does: str, dropped: str) -> None:
    batch = scored(scorer, ["a", does, "abc", "abcd"])
    assert [r.dropped for r in batch] == [None, dropped, None, None]
    assert [r.reward for r in batch if r.dropped is None] == [1, 3, 4]
    assert batch[1].reward != batch[1].reward and batch[1].rewards == {}  # never a 0


@pytest.mark.parametrize("does", ["close", "garbage"])
def test_a_reward_that_breaks_its_connection(scorer: Scorer, does: str) -> None:
    batch = scored(scorer, ["a", does, "abc", "abcd"])
    assert [r.dropped is None for r in batch] == [True, False, True, True]
    assert str(batch[1].dropped).startswith("r: died (")  # by itself or by us, whichever comes first


@pytest.mark.parametrize(("does", "value"), [("true", 1.0), ("fraction", 0.25), ("modules", 0.0), ("fork", 4.0)])
def test_numbers_of_every_kind_count(scorer: Scorer, does: str, value: float) -> None:
    for batch in (scored(scorer, [does, "ab"]), scored(scorer, ["ab", does])[::-1]):
        assert [r.reward for r in batch] == [value, 2.0]


def test_one_hang_in_fifty_costs_those_rollouts_and_about_their_deadlines() -> None:
    texts = ["spin" if i % 50 == 7 else "x" * (i % 9) for i in range(200)]
    with Scorer([], [reward(deadline=0.5)], workers=2) as scorer:
        scorer.ready()
        start = time.perf_counter()
        batch = scored(scorer, texts)
        took = time.perf_counter() - start
    assert [i for i, r in enumerate(batch) if r.dropped] == [7, 57, 107, 157]
    assert drops(batch) == {"r: timeout after 0.5 s": 4}
    assert all(r.reward == len(r.completion.text) for r in batch if not r.dropped)
    assert took < 4


def test_overhead_of_a_trivial_reward() -> None:
    with Scorer([], [reward("one")]) as scorer:
        scored(scorer, ["warm"] * 4)
        times = []
        for _ in range(5):
            start = time.perf_counter()
            scored(scorer, ["x"] * 128)
            times.append(time.perf_counter() - start)
    assert min(times) < 0.15


@pytest.mark.parametrize("workers", [1, 4])
def test_values_do_not_depend_on_the_number_of_workers_or_the_run(scorer: Scorer, workers: int) -> None:
    texts = ["random", "abc", "none", "raise", "random more", "exit", "random", *(f"random {i}" for i in range(30))]
    with Scorer([], [reward()], workers=workers) as other:
        batches = [scored(s, texts) for s in (scorer, other, other)]
    first, *rest = [[(r.rewards, r.dropped) for r in batch] for batch in batches]
    assert rest == [first, first]
    assert len({r.reward for r in batches[0] if r.completion.text.startswith("random")}) == 33


def test_weighted_sum_and_rewards_that_do_not_apply() -> None:
    rewards = [reward("length", "long", weight=0.5), reward("does", "picky", weight=-2.0), reward("one", "one")]
    with Scorer([], rewards) as scorer:
        plain, none, fails = scored(scorer, ["abcd", "none", "raise"])
    assert (plain.rewards, plain.reward) == ({"long": 4, "picky": 4, "one": 1}, 0.5 * 4 - 2 * 4 + 1)
    assert (none.rewards, none.reward) == ({"long": 4, "one": 1}, 3.0)
    assert (fails.rewards, fails.dropped) == ({"long": 5}, "picky: raised ValueError: bad")


def test_a_sum_that_overflows_is_dropped() -> None:
    with Scorer([], [reward("length", weight=1e308)]) as scorer:
        assert [r.dropped for r in scored(scorer, ["a", "long enough"])] == [None, "weighted sum: inf"]


def test_rollouts_dropped_before_are_left_alone(scorer: Scorer) -> None:
    batch = rollouts(["exit", "ab"])
    batch[0].dropped = "overlong"
    scorer.score(batch)
    assert [(r.dropped, r.rewards) for r in batch] == [("overlong", {}), (None, {"r": 2.0})]


def test_nothing_to_score(scorer: Scorer) -> None:
    scorer.score([])


def test_large_and_strange_prompts(scorer: Scorer) -> None:
    assert scored(scorer, ["x" * 10**6, "\ud800"], metadata={"big": "y" * 10**6})[0].reward == 10**6
    unsendable = scored(scorer, ["a"], metadata={"f": lambda: 1})[0].dropped
    assert unsendable is not None and unsendable.startswith("r: prompt cannot be sent to a worker: ")


def test_what_rewards_print_goes_to_the_log(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    log = tmp_path / "rewards.log"
    with Scorer([], [reward()], log=log) as scorer:
        scored(scorer, ["print", "exit"])
    assert set(log.read_text().splitlines()) == {"from print", "from the descriptor", "from stderr"}
    assert capfd.readouterr() == ("", "")


def dropped(*reasons: str | None) -> list[Rollout]:
    batch = rollouts(["a"] * len(reasons))
    for rollout, reason in zip(batch, reasons, strict=True):
        rollout.dropped = reason
    return batch


def test_drops_are_counted_by_kind() -> None:
    batch = dropped("a: raised E: x", None, "a: raised E: y", "a: timeout after 5 s", "unscored")
    assert drops(batch) == {"a: raised E": 2, "a: timeout after 5 s": 1, "unscored": 1}
    assert drops([]) == {}


def test_the_sentence_for_a_whole_update() -> None:
    batch = dropped(*["accuracy: raised ValueError: no digits"] * 128)
    expected = "every rollout of update 12 failed: accuracy raised ValueError: no digits (128 of 128)"
    assert all_failed(batch, "update 12") == expected


def test_the_sentence_has_the_most_frequent_first() -> None:
    batch = dropped("a: timeout after 5 s", "b: raised E: x", "b: raised E: y", "unscored")
    expected = "b raised E: x (2 of 4); a timeout after 5 s (1 of 4); unscored (1 of 4)"
    assert all_failed(batch, "update 1") == f"every rollout of update 1 failed: {expected}"
