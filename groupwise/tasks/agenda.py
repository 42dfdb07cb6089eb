"""Which calls an update needs, what came of them, and what is called again when a call of several rollouts fails."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from groupwise.tasks.calling import CONCURRENT, Answer, Form, Item, Job, Reply, columns_of

PARTS = 8  # into which a call is divided when it fails
MOST_FAILURES = 16  # failures of a reward's calls in one update, without a single success, before the rest is given up


class Call(NamedTuple):
    """Calls are made in the order of these fields: undivided ones first, of those the widest, then by reward and row.

    Of divided calls all first parts come before all second ones, so that a few calls tell whether any can succeed.
    """

    depth: int  # how often it was divided
    part: int
    width: int  # minus the number of rows
    reward: int
    rows: tuple[int, ...]


class Agenda:
    """The calls of one update. A call of several rows that fails as a whole is divided, until its culprits stand alone.

    So a batched function that fails, hangs or crashes on one rollout costs that rollout. Two rules bound the loss of
    time, each for one reward and one update. When `MOST_FAILURES` calls have failed and none has succeeded, every
    other row shares the fate of the first call. A batched function that returned a wrong number of values, and never
    the right one to a call of several completions, cannot be trusted with one completion either: all its rows fail.
    """

    def __init__(self, items: Sequence[Item], forms: Mapping[str, Form], deadlines: Mapping[str, float]) -> None:
        self.answers: list[dict[str, Answer]] = [{} for _ in items]  # by rollout, then by reward
        self.divided: dict[str, str] = {}  # why a call of this reward was divided first
        self._items, self._forms, self._deadlines = items, forms, deadlines
        self._names = list(forms)
        self._columns = columns_of(items)
        self._queue = [call for reward, name in enumerate(forms) for call in self._calls(reward, forms[name])]
        heapq.heapify(self._queue)
        self._first: dict[int, Answer] = {}  # the first failure of a call of several rows, by reward
        self._failures: Counter[int] = Counter()
        self._successes: Counter[int] = Counter()
        self._miscounts: dict[int, Answer] = {}  # the first, by reward
        self._counts: set[int] = set()  # rewards that returned as many values as completions, of more than one

    def _calls(self, reward: int, form: Form) -> Iterator[Call]:
        count = len(self._items)
        size = max(1, count) if form.batched else CONCURRENT if form.asynchronous else 1
        for start in range(0, count, size):
            yield _call(0, 0, reward, tuple(range(start, min(start + size, count))))

    def __bool__(self) -> bool:
        """Whether a call is waiting."""
        return bool(self._queue)

    def take(self) -> Call:
        """The next call."""
        return heapq.heappop(self._queue)

    def put_back(self, call: Call) -> None:
        """Say that a call has not been made."""
        heapq.heappush(self._queue, call)

    def job(self, call: Call) -> Job:
        """What a worker needs to know of a call."""
        name = self._names[call.reward]
        return Job(name, tuple(self._items[row] for row in call.rows), self._columns, self._deadlines[name])

    def deadline(self, call: Call) -> float:
        """Seconds that the user allows."""
        return self._deadlines[self._names[call.reward]]

    def patience(self, call: Call) -> float:
        """Seconds after which a worker that has not replied hangs; an asynchronous call should have ended by itself."""
        asynchronous = self._forms[self._names[call.reward]].asynchronous
        return self.deadline(call) * 1.5 + 0.25 if asynchronous else self.deadline(call)

    def settle(self, call: Call, reply: Reply) -> None:
        """Take the reply to a call."""
        reward = call.reward
        if isinstance(reply, list):
            self._successes[reward] += 1
            if len(call.rows) > 1:
                self._counts.add(reward)
            for row, answer in zip(call.rows, reply, strict=True):
                self._set(row, reward, answer)
            return
        self._failures[reward] += 1
        if reply.miscounted:
            self._miscounts.setdefault(reward, reply)
        if len(call.rows) == 1:
            self._set(call.rows[0], reward, reply)
        else:
            self._first.setdefault(reward, reply)
            words = f"{reply.failure} in a call of {len(call.rows)} completions"
            self.divided.setdefault(self._names[reward], words)
            for part, rows in enumerate(_parts(call.rows)):
                heapq.heappush(self._queue, _call(call.depth + 1, part, reward, rows))
        hopeless = self._failures[reward] >= MOST_FAILURES and not self._successes[reward]
        if hopeless and reward in self._first:
            for row in self._withdraw(reward):
                self._set(row, reward, self._first[reward])

    def _withdraw(self, reward: int) -> list[int]:
        """Rows of the reward's waiting calls, which are no longer made."""
        rows = [row for call in self._queue if call.reward == reward for row in call.rows]
        self._queue = [call for call in self._queue if call.reward != reward]
        heapq.heapify(self._queue)
        return rows

    def finish(self, failure: str) -> None:
        """Say that no further call is made: those that wait have failed for this reason."""
        while self:
            call = self.take()
            for row in call.rows:
                self._set(row, call.reward, Answer(failure=failure))
        for reward in self._miscounts.keys() - self._counts:
            for row in range(len(self._items)):
                self._set(row, reward, self._miscounts[reward])

    def _set(self, row: int, reward: int, answer: Answer) -> None:
        self.answers[row][self._names[reward]] = answer


def _call(depth: int, part: int, reward: int, rows: tuple[int, ...]) -> Call:
    return Call(depth, part, -len(rows), reward, rows)


def _parts(rows: tuple[int, ...]) -> list[tuple[int, ...]]:
    """At most `PARTS` stretches, of two or more rows where there are more than two: pairs show who cannot count."""
    size = max(-(-len(rows) // PARTS), 2 if len(rows) > 2 else 1)
    return [rows[start : start + size] for start in range(0, len(rows), size)]
