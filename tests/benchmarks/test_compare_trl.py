"""The comparison with TRL: equal material for both sides, honest pairs, and one real pair."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from compare_trl import command, cpu, material, venv, worker
from compare_trl.pairs import QUIET, SIDES, WANTED, enough, make_pair, quiet_ones, summarise, tokens_agree
from compare_trl.report import HEADER, as_text
from compare_trl.side import Side
from compare_trl.works import WORKS, Order, Work, read_order

TINY = Work(
    prompts=2,
    group=4,
    prompt_tokens=8,
    completion_tokens=6,
    hidden=16,
    layers=1,
    heads=2,
    kv_heads=1,
    intermediate=16,
    micro_batches=(8,),
)


def step(seconds: float = 1.0, tokens: int = 100, foreign: float = 0.0, peak: float = 500.0) -> dict[str, Any]:
    return {"seconds": seconds, "tokens": tokens, "grad_norm": 1.0, "peak_mib": peak, "foreign": foreign}


def pair(trl: dict[str, Any], ours: dict[str, Any]) -> dict[str, Any]:
    return make_pair({"trl": trl, "ours": ours})


# --- works and their material


@pytest.mark.parametrize("name", WORKS)
def test_every_work_can_be_built_and_cut_into_micro_batches(name: str) -> None:
    work = WORKS[name]
    assert work.hidden % work.heads == 0 and work.heads % work.kv_heads == 0
    assert work.prompt_tokens + work.completion_tokens <= material.CONTEXT
    assert all(work.rollouts % size == 0 for size in work.micro_batches)


@pytest.mark.parametrize("name", WORKS)
def test_an_order_survives_json(name: str) -> None:
    order = Order(WORKS[name], "folder", "float32", "cpu", 2, 32)
    assert read_order(json.loads(json.dumps(order.as_dict()))) == order


@pytest.mark.parametrize("natural", [False, True])
@pytest.mark.parametrize("vocabulary", [64, 5000])
def test_the_end_token_can_be_sampled_only_with_natural_stops(natural: bool, vocabulary: int) -> None:
    known = material.symbols(Work(vocabulary=vocabulary, natural=natural))
    assert len(set(known)) == len(known) == vocabulary + (not natural)
    assert (known.index(material.END) < vocabulary) is natural


@pytest.mark.parametrize("vocabulary", [64, 5000])
def test_a_prompt_has_a_token_for_each_character(vocabulary: int) -> None:
    work = Work(vocabulary=vocabulary)
    tokenizer = material.build_tokenizer(work)
    texts = material.prompts(work)
    assert len(texts) == len(set(texts))
    for text in texts[:20]:
        ids = tokenizer(text)["input_ids"]
        assert len(ids) == work.prompt_tokens
        assert tokenizer.decode(ids) == text
        assert not {tokenizer.pad_token_id, tokenizer.eos_token_id} & set(ids)


def test_every_id_of_the_model_says_something() -> None:
    """Else all rewards of a group would be equal, and a side could skip its work."""
    tokenizer = material.build_tokenizer(Work(vocabulary=5000))
    assert all(tokenizer.decode([number]) for number in range(1, 5000))


def test_the_reward_differs_between_texts() -> None:
    assert material.share_of_odd(["ab", "ac", "", "bb"]) == [0.5, 1.0, 0.0, 0.0]


# --- who used the processors


def test_a_tree_is_its_root_and_all_below() -> None:
    stats = {1: (0, 1), 2: (1, 10), 3: (2, 100), 4: (1, 1000), 5: (9, 10_000)}
    assert cpu.tree_ticks(1, stats) == 1111
    assert cpu.tree_ticks(2, stats) == 110
    assert cpu.tree_ticks(7, stats) == 0


def test_a_program_may_have_any_name() -> None:
    fields = ["S", "7", *"0" * 9, "1", "20", "300", "4000", *"0" * 20]
    assert cpu.parent_and_ticks(f"12 (a) b ( {' '.join(fields)}) {' '.join(fields)}") == (7, 4321)


def start(code: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", f"import time; end = time.monotonic() + 0.5\n{code}"])


def test_time_that_others_use_is_foreign() -> None:
    with start("while time.monotonic() < end: pass") as busy, start("time.sleep(0.5)") as idle:
        ours, of_idle = cpu.watch(os.getpid()), cpu.watch(idle.pid)
        time.sleep(0.45)
        mine, its = ours(), of_idle()
    assert busy.returncode == idle.returncode == 0
    assert 0 <= mine < its <= 1.1, "what a child of ours has used is foreign to its sibling, not to us"


# --- pairs


def test_a_pair_is_quiet_when_both_steps_were() -> None:
    assert pair(step(foreign=QUIET / 2), step())["quiet"]
    assert not pair(step(foreign=QUIET), step())["quiet"]
    assert not pair(step(), step(foreign=QUIET))["quiet"]
    assert make_pair({"ours": step(), "trl": step()})["first"] == "ours"


def test_a_machine_that_is_slowed_down_is_not_quiet() -> None:
    steps = {"trl": step(), "ours": step()}
    pairs = [make_pair(steps, rate) for rate in (100.0, 50.0, 95.0)]
    assert quiet_ones(pairs) == [pairs[0], pairs[2]]
    assert summarise(pairs, dict.fromkeys(SIDES, 0.0))["quiet_pairs"] == 2


def test_noise_does_not_reach_the_medians() -> None:
    quiet = [pair(step(3.0), step(1.0)), pair(step(4.0), step(2.0)), pair(step(2.0), step(1.0))]
    noisy = [pair(step(90.0, foreign=0.5), step(1.0))] * 5
    found = summarise([*noisy, *quiet], {"trl": 100.0, "ours": 300.0})
    assert found["time_ratio"] == 2.0, "the median of the ratios, not the ratio of the medians"
    assert (found["trl_seconds"], found["ours_seconds"]) == (3.0, 1.0)
    assert found["quiet_pairs"] == 3
    assert found["memory_ratio"] == 0.5
    assert found["tokens"] == {"trl": 100, "ours": 100}


def test_swapping_the_sides_inverts_the_ratios() -> None:
    pairs = [pair(step(s, peak=700.0), step(1.0)) for s in (2.0, 3.0, 4.0)]
    swapped = [pair(p["ours"], p["trl"]) for p in pairs]
    base = dict.fromkeys(SIDES, 100.0)
    one, other = summarise(pairs, base), summarise(swapped, base)
    assert one["time_ratio"] == pytest.approx(1 / other["time_ratio"])
    assert one["memory_ratio"] == pytest.approx(1 / other["memory_ratio"])


def test_one_noisy_pair_is_summed_up_all_the_same() -> None:
    found = summarise([pair(step(2.0, foreign=0.9), step(1.0))], dict.fromkeys(SIDES, 0.0))
    assert found["time_ratio"] == 2.0
    assert found["time_ratio_quartiles"] == [2.0, 2.0]
    assert found["quiet_pairs"] == 0


def test_fixed_lengths_must_agree_in_every_step_natural_ones_in_the_median() -> None:
    equal, apart = pair(step(), step()), pair(step(), step(tokens=102))
    assert tokens_agree([equal] * 3, natural=False)
    assert not tokens_agree([equal, equal, apart], natural=False)
    assert tokens_agree([apart], natural=True)
    assert not tokens_agree([pair(step(), step(tokens=104))], natural=True)


def test_pairs_go_on_until_enough_are_quiet_and_the_work_is_the_same() -> None:
    good, noisy, apart = pair(step(), step()), pair(step(foreign=1.0), step()), pair(step(), step(tokens=110))
    assert enough([good] * WANTED, natural=False, wanted=WANTED)
    assert not enough([good] * (WANTED - 1), natural=False, wanted=WANTED)
    assert not enough([good] * (WANTED - 1) + [noisy], natural=False, wanted=WANTED)
    assert enough([good] + [noisy] * 4, natural=False, wanted=1)
    assert not enough([apart] * WANTED, natural=True, wanted=WANTED)


class Scripted:
    """A side that gives what it is told to, and notes when it was asked."""

    def __init__(self, name: str, steps: Iterator[dict[str, Any]], asked: list[str]) -> None:
        self.name, self.steps, self.asked = name, steps, asked

    def step(self) -> dict[str, Any]:
        self.asked.append(self.name)
        return next(self.steps)


def scripted(asked: list[str], **by_side: dict[str, Any]) -> dict[str, Any]:
    return {side: Scripted(side, iter([made] * 99), asked) for side, made in by_side.items()}


def test_the_sides_take_turns_and_who_begins_alternates() -> None:
    asked: list[str] = []
    pairs = command.run_pairs(scripted(asked, trl=step(), ours=step()), natural=False, count=3)
    assert asked[2 * command.WARM_UP :] == ["trl", "ours", "ours", "trl", "trl", "ours"]
    assert [p["first"] for p in pairs] == ["trl", "ours", "trl"]


def test_noise_makes_for_more_pairs_but_not_for_endless_ones() -> None:
    sides = scripted([], trl=step(foreign=1.0), ours=step())
    assert len(command.run_pairs(sides, natural=False, count=2)) == 2 * command.MOST


def test_different_work_ends_it_at_once() -> None:
    sides = scripted([], trl=step(), ours=step(tokens=99))
    assert len(command.run_pairs(sides, natural=False, count=5)) == 1


# --- the table


def result(work: str = "size1", quiet: int = 8, dtype: str = "float32", **more: Any) -> dict[str, Any]:
    pairs = [pair(step(2.0), step())] * quiet + [pair(step(foreign=1.0), step())]
    machine = {"cpu": "a CPU", "cores": "2", "gpu": "none", "torch": "2.13"}
    known = {"work": work, "dtype": dtype, "device": "cpu", "micro_batch": 32, "continuous": False, "trl_tried": []}
    return {**known, **summarise(pairs, dict.fromkeys(SIDES, 0.0)), "pairs": pairs, "machine": machine, **more}


def test_the_table_has_every_result_in_the_order_of_the_works() -> None:
    text = as_text([result("size2"), result(dtype="bfloat16"), result()])
    rows = [line.split(" | ") for line in text.splitlines() if line.startswith("| size")]
    assert [(row[0], row[1]) for row in rows] == [
        ("| size1", "float32"),
        ("| size1", "bfloat16"),
        ("| size2", "float32"),
    ]
    assert all(len(row) == len(HEADER) for row in rows)
    assert "**2.00** (2.00 to 2.00)" in text and text.count("a CPU") == 1
    assert "micro-batches" not in text


def test_the_table_says_what_is_weak_and_what_was_tried() -> None:
    tried = [{"micro_batch": size, "seconds": seconds, "continuous": False} for size, seconds in ((16, 2.0), (32, 1.5))]
    text = as_text([result(quiet=2, trl_tried=tried)])
    assert "2 of 3: too few" in text and "size1 micro-batches of 32, 1.5 s" in text


# --- processes

ECHO = """
from compare_trl.worker import channel, told
say = channel()
print("not for the driver")
say({"base_mib": 5.0})
while told():
    say({"tokens": 3})
"""


def test_a_side_speaks_only_when_asked_and_ends_when_it_is_left(tmp_path: Path) -> None:
    with Side([sys.executable, "-c", ECHO], tmp_path / "log", 1) as side:
        assert side.base_mib == 5.0
        steps = [side.step() for _ in range(3)]
    assert [found["tokens"] for found in steps] == [3, 3, 3]
    assert all(found["foreign"] >= 0 for found in steps)
    assert side._process.returncode == 0
    assert "not for the driver" in (tmp_path / "log").read_text()


def test_what_a_failed_side_has_said_is_shown(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="why it failed"):
        Side([sys.executable, "-c", "raise SystemExit('why it failed')"], tmp_path / "log", 1)


def test_a_side_that_fails_later_is_shown_too(tmp_path: Path) -> None:
    code = ECHO.replace('say({"tokens": 3})', 'raise SystemExit("why it failed")')
    with (
        Side([sys.executable, "-c", code], tmp_path / "log", 1) as side,
        pytest.raises(SystemExit, match="why it failed"),
    ):
        side.step()


def test_resident_memory_is_read(tmp_path: Path) -> None:
    worker.forget_peak()
    held = bytearray(b"x") * (64 * worker.MIB)
    assert worker.resident_mib("VmHWM") >= worker.resident_mib() > 64
    assert len(held)
    with pytest.raises(ValueError, match="VmNothing"):
        worker.resident_mib("VmNothing")


def test_the_environment_is_built_once_for_a_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[list[str]] = []
    monkeypatch.setattr(venv.subprocess, "run", lambda words, **_: calls.append(list(words)))
    folder, lock = tmp_path / "venv", tmp_path / "lock"
    folder.mkdir()
    lock.write_text("a==1")
    assert venv.trl_python(folder, lock) == str(folder / "bin" / "python")
    assert [words[1:3] for words in calls] == [["-m", "venv"], ["-m", "pip"]]
    assert str(lock) in calls[1]
    venv.trl_python(folder, lock)
    assert len(calls) == 2
    lock.write_text("a==2")
    venv.trl_python(folder, lock)
    assert len(calls) == 4, "a lock that has changed"


def test_the_lock_has_what_the_project_is_tested_with() -> None:
    def pinned(name: str) -> set[str]:
        lines = (line.lower().replace("_", "-") for line in (venv.ROOT / name).read_text().splitlines())
        return {line for line in lines if "==" in line and "#" not in line}

    pins, ours = pinned("requirements-trl.lock"), pinned("requirements-dev.lock")
    assert "trl==1.16.0" in pins
    names = {pin.split("==")[0] for pin in ours}
    assert {pin for pin in pins if pin.split("==")[0] in names} <= ours


def test_trls_fastest_settings_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = {(4, False): 3.0, (4, True): 2.5, (8, False): 2.0, (8, True): 1.0}

    class Timed(ExitStack):
        def __init__(self, order: Order) -> None:
            super().__init__()
            self.setting, self.count = (order.micro_batch, order.continuous), 0

        def step(self) -> dict[str, Any]:
            self.count += 1
            return step(0.1 if self.count == 1 else seconds[self.setting])  # the first is no measure

    monkeypatch.setattr(command, "open_side", lambda name, order, python: Timed(order))
    order = Order(replace(TINY, micro_batches=(4, 8), continuous=(False, True)), "", "float32", "cpu", 1)
    best, tried = command.at_its_best(order, "")
    assert best == replace(order, micro_batch=8, continuous=True)
    assert {(one["micro_batch"], one["continuous"]): one["seconds"] for one in tried} == seconds
    one = replace(order, work=replace(TINY, micro_batches=(32,)))
    assert command.at_its_best(one, "") == (replace(one, micro_batch=32), [])


def test_both_sides_do_the_same_work(tmp_path: Path) -> None:
    """A real pair of a tiny model, TRL from this environment."""
    material.make(TINY, tmp_path)
    order = Order(TINY, str(tmp_path), "float32", "cpu", 1, 8)
    with ExitStack() as stack:
        sides = {side: stack.enter_context(command.open_side(side, order, sys.executable)) for side in SIDES}
        pairs = [make_pair({name: side.step() for name, side in sides.items()}) for _ in range(2)]
        found = summarise(pairs, {name: side.base_mib for name, side in sides.items()})
    assert tokens_agree(pairs, natural=False)
    assert found["tokens"]["ours"] == TINY.rollouts * TINY.completion_tokens
    assert 0.3 < found["grad_norm"]["ours"] / found["grad_norm"]["trl"] < 3, "the same loss, of other samples"
    assert found["trl_mib"] > 0 and found["ours_mib"] > 0
