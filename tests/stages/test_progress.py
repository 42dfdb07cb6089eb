"""What the live line shows; what a log gets is in test_train.py."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Sequence

import pytest
from rich.console import Console

from groupwise.run.doing import doing
from groupwise.stages import progress
from groupwise.stages.clock import Clock
from groupwise.stages.progress import Progress


def terminal(monkeypatch: pytest.MonkeyPatch, width: int, now: Callable[[], float] = time.monotonic) -> io.StringIO:
    text = io.StringIO()

    def console(**_: bool) -> Console:
        return Console(file=text, force_terminal=True, width=width, color_system=None, get_time=now)

    monkeypatch.setattr(progress, "Screen", console)
    return text


def test_on_a_terminal_it_says_what_is_being_done(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = terminal(monkeypatch, width=140)
    with Progress(5) as shown:
        with Clock()("generate"):
            doing("generate", 37, 128)
            shown._bar.refresh()
            assert "generate 37/128" in screen.getvalue()
        with Clock()("score"):
            shown.show(1, reward=0.25)
            shown._bar.refresh()
    last = screen.getvalue().rsplit("update", 1)[1]
    assert "1/5" in last
    assert "reward 0.250" in last
    assert "score" in last
    assert "37/128" not in last
    before = screen.getvalue()
    doing("update", 1, 2)
    assert screen.getvalue() == before


def test_a_narrow_terminal_keeps_how_far_and_how_long(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = terminal(monkeypatch, width=80)
    with Progress(30) as shown:
        doing("generate", 37, 128)
        shown.show(12, reward=0.5, accuracy=0.5, tokens_per_second=12345)
        shown._bar.refresh()
    last = screen.getvalue().rsplit("update", 1)[1]
    assert "12/30 reward 0.500  accuracy 50.0%  12,345 tokens/s" in last
    assert "generate" not in last
    assert "…" not in last


@pytest.mark.parametrize("seconds", [1, 20, 40, 4000])
def test_how_long_still_is_shown_however_long_an_update_takes(monkeypatch: pytest.MonkeyPatch, seconds: int) -> None:
    now = 0.0
    screen = terminal(monkeypatch, width=140, now=lambda: now)
    with Progress(7) as shown:
        for update in range(1, 6):
            for part in range(8):
                now += seconds / 8
                doing("generate", part, 8)
                if update > 2:  # two updates make a speed
                    assert shown._bar.tasks[0].time_remaining == (8 - update) * seconds
            shown.show(update, reward=0.5)
        shown._bar.refresh()
    minutes, rest = divmod(2 * seconds, 60)
    hours, minutes = divmod(minutes, 60)
    left = f"{hours}:{minutes:02}:{rest:02} left" if hours else f"{minutes:02}:{rest:02} left"
    assert left in screen.getvalue().rsplit("5/7", 1)[1]


def test_while_an_evaluation_shows_its_own_the_outer_one_rests(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = terminal(monkeypatch, width=140)
    with Progress(5) as outer:
        outer.show(2)
        with Progress(100, unit="evaluate") as inner:
            began = len(screen.getvalue())
            inner.show(50)
            time.sleep(0.3)  # each bar would refresh itself three times
            inside = screen.getvalue()[began:]
            began = len(screen.getvalue())
        outer.show(3)
    assert "50/100" in inside
    assert "update" not in inside
    assert "3/5" in screen.getvalue()[began:]


def test_an_outer_one_comes_back_after_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = terminal(monkeypatch, width=140)
    with Progress(5) as outer:
        with pytest.raises(KeyError), Progress(100, unit="evaluate"):
            raise KeyError
        began = len(screen.getvalue())
        outer.show(4)
        outer._bar.refresh()
        assert "4/5" in screen.getvalue()[began:]


@pytest.mark.parametrize(
    ("total", "start", "steps", "told"),
    [
        (20000, 0, range(512, 20481, 512), [2048, 4096, 6144, 8192, 10240, 12288, 14336, 16384, 18432, 20000]),
        (1000, 0, (512, 1000), [512, 1000]),
        (64, 0, (64,), [64]),
        (25, 0, range(1, 26), [1, 3, 5, 8, 10, 13, 15, 18, 20, 23, 25]),
        (30, 20, range(21, 31), [21, 24, 27, 30]),
        (4, 0, range(1, 5), [1, 2, 3, 4]),
    ],
)
def test_a_log_gets_a_line_every_tenth(
    capsys: pytest.CaptureFixture[str], total: int, start: int, steps: Sequence[int], told: list[int]
) -> None:
    with Progress(total, start, "evaluate") as shown:
        for done in steps:
            shown.show(min(done, total), accuracy=0.5)
    assert capsys.readouterr().out.splitlines() == [f"evaluate {done}/{total}  accuracy 50.0%" for done in told]


def test_a_log_gets_no_such_line(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress(2) as shown:
        doing("generate", 37, 128)
        shown.show(1, reward=0.25)
    assert capsys.readouterr().out == "update 1/2  reward 0.250\n"
