"""What a run says, to whoever still reads it: a reader that goes away must not cost the run."""

from __future__ import annotations

import os
import select

from rich.console import Console


class Screen(Console):
    """A console that falls silent where nobody reads any more (`| head`, a `| tee` that Ctrl-C ended): rich exits."""

    def on_broken_pipe(self) -> None:
        self.quiet = True
        hush()


def hush() -> None:
    """Let standard output and error lead nowhere where their reader is gone: a closed pipe, a lost terminal.

    What other code prints there later, and what their buffers still hold, would raise otherwise.
    """
    for stream in (1, 2):
        poll = select.poll()
        poll.register(stream, 0)
        if any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0)):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream)
            os.close(nowhere)
