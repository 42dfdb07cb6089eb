"""The command line of the comparison, and its pairs."""

from __future__ import annotations

import json
import os
import sys
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from sample_efficiency.places import write_json

from compare_trl.pairs import SIDES, TOKENS_APART, WANTED, enough, make_pair, quiet_ones, summarise, tokens_agree
from compare_trl.report import RESULTS, report
from compare_trl.side import Side
from compare_trl.venv import trl_python
from compare_trl.works import WORKS, Order

WARM_UP = 2  # steps of each side that are not counted
TRIED = 2  # steps by which a size of TRL's micro-batches is judged
USUAL = ("float32", "cpu")  # are not named in a result's file
MOST = 4  # times the pairs asked for, while too few are quiet or the tokens disagree

os.environ.setdefault("HF_HUB_OFFLINE", "1")


def main(description: str | None) -> None:
    parser = ArgumentParser(description=description, formatter_class=RawDescriptionHelpFormatter)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--work", choices=WORKS)
    what.add_argument("--report", action="store_true", help="write all results so far into docs/speed.md")
    parser.add_argument(
        "--pairs", type=positive, default=WANTED, help=f"at least; up to {MOST} times as many until {WANTED}"
    )
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    arguments = parser.parse_args()
    if arguments.report:
        report()
    else:
        compare(arguments.work, arguments.pairs, arguments.dtype, arguments.device)


def compare(name: str, count: int, dtype: str, device: str) -> None:
    """Run and keep a work's pairs; exits with 1 where the two sides did not do the same work."""
    from compare_trl.material import make
    from groupwise.stages.record import machine

    work = WORKS[name]
    python = trl_python()
    with TemporaryDirectory() as folder:
        make(work, Path(folder))
        order = Order(work, folder, dtype, device, len(os.sched_getaffinity(0)))
        order, tried = at_its_best(order, python)
        with ExitStack() as stack:
            sides = {side: stack.enter_context(open_side(side, order, python)) for side in SIDES}
            pairs = run_pairs(sides, work.natural, count, matrix_rate if device == "cpu" else lambda: 0.0)
            base_mib = {side: sides[side].base_mib for side in SIDES}
    result = {
        "work": name,
        "dtype": dtype,
        "device": device,
        **summarise(pairs, base_mib),
        "micro_batch": order.micro_batch,
        "continuous": order.continuous,
        "trl_tried": tried,
        "pairs": pairs,
        "machine": machine(),
    }
    if result["quiet_pairs"] < min(count, WANTED):
        say(f"only {result['quiet_pairs']} of {len(pairs)} pairs were quiet, {WANTED} are wanted: try again later")
    agreed = tokens_agree(pairs, work.natural)
    path = RESULTS / f"{'-'.join([name, *(word for word in (dtype, device) if word not in USUAL)])}.json"
    if agreed and path.exists() and json.loads(path.read_text())["quiet_pairs"] > result["quiet_pairs"]:
        say(f"{path.name} has more quiet pairs, and is kept")
    elif agreed:
        write_json(path, result)
    print(json.dumps(result))
    if not agreed:
        limit = f"{TOKENS_APART:.0%} apart at most in the median" if work.natural else "equal in every step"
        raise SystemExit(f"the sides did not do the same work: tokens {result['tokens']}, which must be {limit}")


def at_its_best(order: Order, python: str) -> tuple[Order, list[dict[str, Any]]]:
    """The order with TRL's fastest settings, and the seconds a step of each, where there are several."""
    settings = [
        {"micro_batch": size, "continuous": continuous}
        for size, continuous in product(order.work.micro_batches, order.work.continuous)
    ]
    if len(settings) == 1:
        return replace(order, **settings[0]), []
    tried: list[dict[str, Any]] = []
    for setting in settings:
        with open_side("trl", replace(order, **setting), python) as side:
            seconds = min([side.step()["seconds"] for _ in range(1 + TRIED)][1:])
        tried.append({**setting, "seconds": seconds})
        say(f"TRL with {setting}: {seconds:.2f} s a step")
    best = min(range(len(tried)), key=lambda number: tried[number]["seconds"])
    return replace(order, **settings[best]), tried


def open_side(name: str, order: Order, python: str) -> Side:
    program = python if name == "trl" else sys.executable
    module = {"trl": "compare_trl.trl_side", "ours": "compare_trl.our_side"}[name]
    command = [program, "-m", module, json.dumps(order.as_dict())]
    return Side(command, Path(order.folder) / f"{name}.log", order.threads)


def run_pairs(
    sides: Mapping[str, Side], natural: bool, count: int, rate: Callable[[], float] = lambda: 0.0
) -> list[dict[str, Any]]:
    """One step of each side in turn, the other one waiting; who begins alternates."""
    for _ in range(WARM_UP):
        for side in SIDES:
            sides[side].step()
    pairs: list[dict[str, Any]] = []
    while len(pairs) < MOST * count and not enough(pairs, natural, count):
        turn = SIDES if len(pairs) % 2 == 0 else SIDES[::-1]
        gflops = rate()
        pairs.append(make_pair({side: sides[side].step() for side in turn}, gflops))
        trl, ours = (pairs[-1][side]["seconds"] for side in SIDES)
        quiet = "" if pairs[-1] in quiet_ones(pairs) else "  (not quiet)"
        say(f"pair {len(pairs)}: TRL {trl:.2f} s, ours {ours:.2f} s, {trl / ours:.2f} times{quiet}")
        if not natural and not tokens_agree(pairs, natural):
            break
    return pairs


def matrix_rate() -> float:
    """GFLOP/s of float32 products on this machine, now."""
    from scaling.point import gflops

    return gflops()


def positive(word: str) -> int:
    number = int(word)
    if number < 1:
        raise ValueError
    return number


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
