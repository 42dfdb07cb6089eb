"""Ctrl-C that loses nothing: the update under way is finished and saved first; a second one stops at once."""

from __future__ import annotations

import signal
import sys
import threading
from types import FrameType, TracebackType
from typing import Any

from groupwise.run.world import rank
from groupwise.stages.screen import hush


class Interrupt:
    """While open, the first SIGINT, SIGTERM or SIGHUP only sets `asked`; the loop looks at it between updates.

    A lost terminal may send SIGHUP twice, by the kernel and by the shell, so that one never stops at once; under nohup
    it stays ignored.
    """

    def __init__(self) -> None:
        self.asked = False
        self._before: dict[signal.Signals, Any] = {}

    def _note(self, number: int, frame: FrameType | None) -> None:
        hush()  # the terminal may be what is gone
        if self.asked:
            if number == signal.SIGHUP:
                return
            raise KeyboardInterrupt
        self.asked = True
        if rank() == 0:
            print("\nFinishing this update, then saving; press Ctrl-C again to stop at once.", file=sys.stderr)

    def __enter__(self) -> Interrupt:
        if threading.current_thread() is threading.main_thread():  # elsewhere Python allows no handlers
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
                    self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
