"""How much memory is in use, and the most since it was last asked."""

from __future__ import annotations

import os
import threading

INTERVAL = 0.005  # seconds between two looks


class Resident:
    """Resident memory of this process, looked at again and again: a peak that lasts less than `INTERVAL` may escape."""

    kind = "resident"

    def open(self) -> None:
        self._file, self._page = os.open("/proc/self/statm", os.O_RDONLY), os.sysconf("SC_PAGE_SIZE")
        self._peak, self._ended = self._now(), threading.Event()
        self._looker = threading.Thread(target=self._look, name="memory gauge", daemon=True)
        self._looker.start()

    def close(self) -> None:
        self._ended.set()
        self._looker.join()
        os.close(self._file)

    def read(self) -> tuple[int, int]:
        """Bytes now, and at most since the last call."""
        now = self._now()
        peak, self._peak = max(self._peak, now), now
        return now, peak

    def _now(self) -> int:
        return int(os.pread(self._file, 256, 0).split()[1]) * self._page

    def _look(self) -> None:
        while not self._ended.wait(INTERVAL):
            now = self._now()  # first: `read` may set the peak anew meanwhile
            self._peak = max(self._peak, now)


class Allocated:
    """What torch has allocated on the GPU for this process. Reading waits for the device, and resets torch's peak."""

    kind = "cuda"

    def open(self) -> None:
        self.read()

    def close(self) -> None: ...

    def read(self) -> tuple[int, int]:
        """Bytes now, and at most since the last call."""
        from torch import cuda

        cuda.synchronize()
        now, peak = cuda.memory_allocated(), cuda.max_memory_allocated()
        cuda.reset_peak_memory_stats()
        return now, peak
