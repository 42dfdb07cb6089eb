"""Processes: none is left over, none is in the way, and one that dies is replaced."""

import os
import signal
import subprocess
import threading
import time
from pathlib import Path

import pytest

from groupwise.config import RewardConfig
from groupwise.tasks.scoring import Scorer, drops

from .cases import alive, descendants, reward, scored, script, wait_until

pytestmark = pytest.mark.usefixtures("bad_rewards_on_path")


def test_no_growth_over_many_calls() -> None:
    others = descendants(os.getpid())
    with Scorer([], [reward(deadline=0.05)]) as scorer:
        scored(scorer, ["a", "exit", "spin"])
        before = len(os.listdir("/proc/self/fd")), threading.active_count()
        for i in range(200):
            scored(scorer, ["a", "exit", "b", "spin" if i % 20 == 0 else "c"])
        assert (len(os.listdir("/proc/self/fd")), threading.active_count()) == before
        # The nursery and two workers, of which one may be on its way; a zombie would stay as one more.
        wait_until(lambda: len(descendants(os.getpid(), others)) == 3)
    assert descendants(os.getpid(), others) == []


def test_a_thread_that_hangs_for_good_keeps_no_descriptor() -> None:
    release = threading.Event()
    config = [RewardConfig(name="r", deadline=0.02)]
    with Scorer([], config, functions={"r": lambda p, c: release.wait()}) as scorer:
        scored(scorer, ["a"])
        before = len(os.listdir("/proc/self/fd"))
        scored(scorer, ["a"] * 10)
        assert len(os.listdir("/proc/self/fd")) == before
    release.set()


def test_a_killed_worker_takes_its_own_children_along(tmp_path: Path) -> None:
    note = tmp_path / "pid"
    with Scorer([], [reward(deadline=0.5)]) as scorer:
        assert drops(scored(scorer, [f"child {note}"])) == {"r: timeout after 0.5 s": 1}
        wait_until(lambda: not alive(int(note.read_text())))


def test_workers_are_out_of_reach_of_ctrl_c(scorer: Scorer) -> None:
    (batch,) = scored(scorer, ["pid"])
    assert os.getsid(int(batch.reward)) not in (os.getsid(0), 0)


def test_a_call_that_is_interrupted_leaves_nothing_for_the_next(scorer: Scorer) -> None:
    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        with pytest.raises(KeyboardInterrupt):
            scored(scorer, ["sleep", "sleep", "a"])
    finally:
        signal.signal(signal.SIGALRM, before)
    assert [r.reward for r in scored(scorer, ["abc", "ab", "a"])] == [3, 2, 1]


@pytest.mark.parametrize("victim", ["nursery", "workers"])
def test_processes_that_are_killed_while_idle_are_replaced(victim: str) -> None:
    others = descendants(os.getpid())
    with Scorer([], [reward()]) as scorer:
        scored(scorer, ["a"])
        nursery, *workers = descendants(os.getpid(), others)
        for pid in [nursery] if victim == "nursery" else workers:
            os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not any(alive(pid) for pid in workers))
        assert [r.reward for r in scored(scorer, ["a", "ab", "abc"])] == [1, 2, 3]


@pytest.mark.parametrize("busy", ["sleep", "spin", "child"])
def test_nothing_outlives_a_trainer_that_is_killed(tmp_path: Path, busy: str) -> None:
    note = tmp_path / "pid"
    trainer = script(tmp_path, f"scorer.score(rollouts([{f'{busy} {note}'!r}, {f'{busy} {note}'!r}]))", deadline=99)
    wait_until(lambda: len(descendants(trainer.pid)) >= 3)
    time.sleep(0.3)
    family = descendants(trainer.pid)
    assert len(family) == (5 if busy == "child" else 3)
    trainer.kill()
    trainer.wait()
    wait_until(lambda: not any(alive(pid) for pid in family))


def test_a_trainer_that_ends_without_closing_leaves_nothing(tmp_path: Path) -> None:
    end = "scorer.score(rollouts(['a']))\nprint(*descendants(os.getpid()))"
    trainer = script(tmp_path, end, stdout=subprocess.PIPE)
    out, _ = trainer.communicate(timeout=20)
    assert trainer.returncode == 0 and len(out.split()) == 3
    wait_until(lambda: not any(alive(int(pid)) for pid in out.split()))


def test_a_script_without_a_guard_runs_once(tmp_path: Path) -> None:
    """multiprocessing would run it again in each worker; a function of the script's own runs in its process."""
    text = "print('once', flush=True)\ndef own(p, c): return os.getpid()\n"
    text += "local = Scorer([], [], functions={'own': own})\n"
    text += "scorer.score(batch := rollouts(['pid']))\nlocal.score(mine := rollouts(['a']))\n"
    text += "print(batch[0].reward != os.getpid() == mine[0].reward)\nscorer.close()\nlocal.close()"
    trainer = script(tmp_path, text, stdout=subprocess.PIPE)
    assert trainer.communicate(timeout=20)[0].split() == [b"once", b"True"]
