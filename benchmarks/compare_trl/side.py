"""A side as the driver sees it: a process that lives over all pairs and works only when it is told to."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from sample_efficiency.places import ROOT

from compare_trl.cpu import watch

PATIENCE = 30  # seconds that a process may take to end


def environment(threads: int) -> dict[str, str]:
    """Of every process that is timed: this checkout on the path, nothing asked of the network."""
    return os.environ | {
        "PYTHONPATH": os.pathsep.join((str(ROOT / "benchmarks"), str(ROOT))),
        "OMP_NUM_THREADS": str(threads),
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_OFFLINE": "1",
        "TRL_EXPERIMENTAL_SILENCE": "1",
    }


class Side:
    """Speaks JSON lines with the process; what it prints otherwise is in `log`."""

    def __init__(self, command: Sequence[str], log: Path, threads: int) -> None:
        self._log = log
        with log.open("wb") as errors:
            self._process = subprocess.Popen(
                command,
                cwd=ROOT,
                env=environment(threads),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
        self.base_mib: float = self._read()["base_mib"]  # resident after the imports

    def step(self) -> dict[str, Any]:
        """Seconds, tokens, grad_norm, peak_mib, and `foreign`: the share of the machine that others used meanwhile.

        Others are all but this process: the idle side too.
        """
        foreign = watch(self._process.pid)
        with suppress(BrokenPipeError):  # it has failed; reading tells why
            print("step", file=self._process.stdin, flush=True)
        found = self._read()
        return found | {"foreign": foreign()}

    def close(self) -> None:
        """Nothing more is asked; the process ends."""
        assert self._process.stdin is not None and self._process.stdout is not None
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self.close()
            raise SystemExit(f"a side has failed: {self._log.read_text()[-3000:]}")
        found: dict[str, Any] = json.loads(line)
        return found

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
