"""The live line of a long run: how far, how good, how fast, how long still."""

from __future__ import annotations

import math
from contextlib import ExitStack
from importlib.util import find_spec
from types import TracebackType

from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from groupwise.run.doing import listening
from groupwise.run.world import rank
from groupwise.stages.screen import Screen, hush

LABELS = {
    "reward": "reward {:.3f}",
    "accuracy": "accuracy {:.1%}",
    "loss": "loss {:.4f}",
    "tokens_per_second": "{:,.0f} tokens/s",
    "dropped": "{:.0f} dropped",
}

WIDE = 100  # columns; on a narrower terminal how far and how long still matter most

_shown: list[Progress] = []  # those that are open; an evaluation's inside the training's


class Progress:
    """A progress bar on a terminal or in a notebook with ipywidgets; elsewhere (a log, CI) a line every tenth of it.

    While one is open inside another, the outer one rests: two that move the same cursor overwrite each other.
    """

    def __init__(self, total: int, start: int = 0, unit: str = "update") -> None:
        self._console = Screen(quiet=rank() > 0)
        self._live = self._console.is_terminal or (self._console.is_jupyter and bool(find_spec("ipywidgets")))
        self._total, self._unit, self._tenth = total, unit, start * 10 // max(1, total)
        wide = self._console.width >= WIDE
        self._bar = Bar(
            TextColumn(f"[bold]{unit}"),
            BarColumn(bar_width=24 if wide else 8),
            MofNCompleteColumn(),
            TextColumn("{task.fields[text]}"),
            *([TextColumn("[dim]{task.fields[doing]}")] if wide else []),
            TimeRemainingColumn(compact=True),
            TextColumn("left"),
            console=self._console,
            speed_estimate_period=math.inf,  # rich forgets what is older than 30 s, and an update may take longer
            disable=not self._live,
        )
        self._task = self._bar.add_task("", total=total, completed=start, text="", doing="")
        self._open = ExitStack()

    def show(self, done: int, **numbers: float) -> None:
        """After unit number `done`; numbers by the names in LABELS."""
        text = "  ".join(LABELS[name].format(value) for name, value in numbers.items())
        hush()  # a run that its shell disowned hears of the lost terminal nowhere else
        self._bar.update(self._task, completed=done, text=text)
        before, self._tenth = self._tenth, done * 10 // self._total
        if not self._live and (self._tenth != before or done == 1):
            self._console.print(f"{self._unit} {done}/{self._total}  {text}", highlight=False)

    def _doing(self, step: str, done: int, total: int) -> None:
        self._bar.update(self._task, doing=f"{step} {done}/{total}" if total else step)

    def __enter__(self) -> Progress:
        if _shown:
            _shown[-1]._bar.stop()
        _shown.append(self)
        self._open.enter_context(listening(self._doing))
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()
        self._open.close()
        _shown.remove(self)
        if _shown:
            _shown[-1]._bar.start()
