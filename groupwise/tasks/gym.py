"""Tasks from reasoning-gym: any family by name and parameters, with its own scorer and difficulty metadata.

A family makes finite data sets, some of them as whole lists, and seeds item i with `seed + i`, so that data sets whose
seeds lie close share items. A stream is therefore a chain of small data sets with seeds far apart, and whether a
question is held out depends on its text alone: a training stream never shows a question that any evaluation, under
any seed, may ask.
"""

from __future__ import annotations

import difflib
import hashlib
import math
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import is_dataclass
from typing import Any, cast, get_args, get_type_hints

from groupwise.tasks.hold_out import is_held_out, prompt_id
from groupwise.tasks.rewards import answer_of
from groupwise.types import Prompt, UserError

# Families whose scorers evaluate answers, by Python or by sympy, which comes to the same.
EVALUATED = frozenset(
    {
        "binary_matrix",
        "countdown",
        "intermediate_integration",
        "n_queens",
        "polynomial_multiplication",
        "puzzle24",
        "simple_integration",
        "spiral_matrix",
        "string_insertion",
    }
)
_FUNCTIONS = "sin|cos|tan|sec|csc|cot|a?sinh|a?cosh|a?tanh|asin|acos|atan|exp|log|ln|sqrt|Abs|abs|Integral"
_CODE = re.compile(
    rf"""__ | := | \b(?:lambda|for|if)\b
    | \b(?!(?:{_FUNCTIONS})\s*\()[^\W\d]\w*\s*[\[(]     # a call or a subscript of anything but these functions
    | \b[^\W\d]\w*\s*\. | [\])}}'"]\s*[.\[(]          # an attribute, or what an expression gives called""",
    re.VERBOSE,
)
_CHUNK = 256  # items of one data set of a stream
_PATIENCE = 20_000  # draws without one new question after which a stream counts as exhausted


class GymTask:
    """One reasoning-gym family. `domain` is reasoning-gym's category, e.g. "arithmetic".

    Raises UserError for an unknown family or impossible parameters.
    """

    def __init__(self, name: str, family: str, params: Mapping[str, Any]) -> None:
        self.name = name
        self.family = family
        self._params = dict(params)
        parts = [part.get("name") for part in params.get("datasets", ()) if isinstance(part, Mapping)]
        self._evaluates = not EVALUATED.isdisjoint([family, *parts])
        self._scorer = self.chunk(0, 0)
        self.domain = str(self._scorer.category)

    def stream(self, seed: int, *, held_out: bool, cursor: int = 0) -> GymStream:
        """Prompts of stream `seed` from `cursor`; training and held-out streams are disjoint whatever their seeds."""
        return GymStream(self, seed, held_out, cursor)

    def chunk(self, seed: int, number: int) -> Any:
        """The data set that holds items number * _CHUNK and on of stream `seed`."""
        digest = hashlib.sha256(f"{seed}/{number}".encode()).digest()
        return _create(self.name, self.family, self._params, int.from_bytes(digest[:4]) // 2)  # NumPy's seeds: 32 bits

    def score(self, prompt: Prompt, completion: str) -> float:
        """The family's own score in [0, 1] of the text inside the completion's <answer> tags; 0 where there is none.

        Some families' scorers raise where an answer is not of the form they expect: that is a wrong answer. Those that
        would evaluate it as Python are not shown one that does more than arithmetic and lists: that is wrong too.
        """
        answer = answer_of(completion)
        if not answer or (self._evaluates and _is_code(answer)):
            return 0.0
        entry = {"question": prompt.text, "answer": prompt.answer, "metadata": dict(prompt.metadata)}
        try:
            return float(self._scorer.score_answer(answer, entry))
        except MemoryError:  # the worker's trouble, not the answer's
            raise
        except Exception:
            return 0.0


class GymStream:
    """An iterator of prompts that can be continued from its `cursor`.

    A held-out stream never repeats a question, and ends when the family has no more of them.
    """

    def __init__(self, task: GymTask, seed: int, held_out: bool, cursor: int) -> None:
        self.cursor = cursor  # index of the next item
        self._task, self._seed, self._held_out = task, seed, held_out
        self._number = -1  # of the chunk at hand
        self._chunk: Any = None
        self._seen: set[str] = set()

    def __iter__(self) -> GymStream:
        return self

    def __next__(self) -> Prompt:
        for _ in range(_PATIENCE):
            entry = self._next_entry()
            key = prompt_id(self._task.family, entry["question"])
            if is_held_out(key) is not self._held_out or key in self._seen:
                continue
            if self._held_out:
                self._seen.add(key)
            return Prompt(
                id=key,
                task=self._task.name,
                domain=self._task.domain,
                text=str(entry["question"]).strip(),
                answer=None if entry["answer"] is None else str(entry["answer"]),
                metadata=dict(entry["metadata"]),
                complexity=complexity_of(entry["metadata"].get("difficulty")),
            )
        raise StopIteration

    def _next_entry(self) -> dict[str, Any]:
        number, item = divmod(self.cursor, _CHUNK)
        if number != self._number:
            self._number, self._chunk = number, self._task.chunk(self._seed, number)
        self.cursor += 1
        entry: dict[str, Any] = self._chunk[item]
        return entry


def _is_code(answer: str) -> bool:
    """Whether evaluating the answer could do more than arithmetic and lists of words."""
    quotes = "'" in answer or '"' in answer  # a function of sympy's evaluates a text again
    return bool(_CODE.search(answer)) or (quotes and "(" in answer)


def complexity_of(difficulty: Any) -> float | None:
    """One number for a family's difficulty metadata: the mean of log(1 + |x|) over the numbers in it; None without any.

    >>> round(complexity_of({"num_terms": 3, "num_digits": [1, 2]}), 3)
    1.141
    """
    if isinstance(difficulty, Mapping):
        parts = [complexity_of(value) for value in difficulty.values()]
    elif isinstance(difficulty, list | tuple):
        parts = [complexity_of(value) for value in difficulty]
    else:
        is_number = isinstance(difficulty, int | float) and math.isfinite(difficulty)
        return math.log1p(abs(difficulty)) if is_number else None
    known = [part for part in parts if part is not None]
    return sum(known) / len(known) if known else None


def families() -> list[str]:
    """Every reasoning-gym family by name."""
    import reasoning_gym  # noqa: F401  (fills the registry)
    from reasoning_gym.factory import DATASETS

    return sorted(DATASETS)


def _create(name: str, family: str, params: Mapping[str, Any], seed: int) -> Any:
    import reasoning_gym

    known = families()
    if family not in known:
        near = difflib.get_close_matches(family, known, n=3) or known[:3]
        raise UserError(f"task {name}: no reasoning-gym family {family!r}; nearest names: {', '.join(near)}")
    try:
        return reasoning_gym.create_dataset(family, seed=seed, size=_CHUNK, **_typed(family, params))
    except (TypeError, AssertionError, ValueError) as error:
        reason = str(error).replace("\n", " ") or type(error).__name__
        raise UserError(f"task {name}: reasoning-gym refuses params {dict(params)}: {reason}") from None


def _typed(family: str, params: Mapping[str, Any]) -> dict[str, Any]:
    """Recipes hold plain lists; some families want tuples, members of their own enums or, in lists, dataclasses."""
    from reasoning_gym.factory import DATASETS

    config = DATASETS[family][1]
    hints, default = get_type_hints(config), config()
    out: dict[str, Any] = {}
    for key, value in params.items():
        like = getattr(default, key, None)
        if isinstance(value, list) and isinstance(like, (list, tuple)) and like:
            kind = type(like[0])
            with suppress(ValueError):
                value = [kind(v) for v in value] if hasattr(kind, "__members__") else value
            value = type(like)(value)
        elif isinstance(value, list) and get_args(hints.get(key)) and is_dataclass(part := get_args(hints[key])[0]):
            value = [cast(Any, part)(**entry) for entry in value]
        out[key] = value
    return out
