"""All that travels between the rooms of groupwise, and the protocols the rooms agree on.

Shape notation, used everywhere: N rollouts of an update, G completions of one prompt, B rows of a micro-batch,
T tokens, V vocabulary, L levels of the group tree, K named rewards.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """A question with all that decides how its answers are scored and compared."""

    id: str  # stable across runs: a hash of task and text
    task: str  # the task's name in the recipe
    domain: str  # the task's category, e.g. "arithmetic"
    text: str  # what the user says; of a conversation, its last user message
    messages: tuple[
        Mapping[str, str], ...
    ] = ()  # the conversation so far, each with role and content; or the text alone
    chat: bool = True  # put the model's chat template around the text when it is encoded; messages always get it
    answer: str | None = None  # the reference answer, where there is one
    metadata: Mapping[str, Any] = field(default_factory=dict)  # difficulty, the data set's columns, what scorers need
    complexity: float | None = None  # how hard the data say it is, in any unit; None: they do not say
    embedding: NDArray[np.float32] | None = field(default=None, compare=False, repr=False)  # [E] what it is about
    token_ids: tuple[int, ...] = ()  # [T] encoded with the model's template; empty until encoded


@dataclass(frozen=True, kw_only=True)
class Completion:
    """What the policy said to a prompt. `logprobs` are of logits / temperature, before top-p and top-k."""

    token_ids: tuple[int, ...]  # [T], the end token included when it was sampled
    logprobs: tuple[float, ...]  # [T], by the engine
    text: str  # decoded, without special tokens
    finish_reason: str  # "stop" (end token or stop string) or "length" (cut at max_tokens)
    policy_version: int  # number of updates the generating weights had seen


@dataclass(frozen=True, kw_only=True)
class Step:
    """One step of a completion's reasoning; `text` is the completion's text from `start` to `end`."""

    text: str
    start: int
    end: int


@dataclass(kw_only=True)
class Rollout:
    """A prompt, one completion of it, how it was scored, and the advantage that followed."""

    prompt: Prompt
    completion: Completion
    rewards: dict[str, float] = field(default_factory=dict)  # by name, never overwritten by their sum
    reward: float = float("nan")  # the weighted sum of `rewards`
    advantage: float = 0.0
    group: int = -1  # index of its prompt within the update
    path: tuple[int, ...] = ()  # [L] its groups, coarse to fine; ids last as long as the run
    dropped: str | None = None  # why this rollout does not count, e.g. "accuracy: timeout"; None when it counts


@dataclass(frozen=True, kw_only=True)
class Groups:
    """The group tree of an update. `levels` [N, L]: integer ids, coarse to fine, nested; the last is the prompt."""

    levels: Ints
    names: tuple[str, ...]  # L names of the columns, e.g. ("domain", "prompt")

    @property
    def prompt(self) -> Ints:
        """[N] id of each rollout's prompt."""
        return np.asarray(self.levels[:, -1])


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What the batches before this one taught about rewards; it was fixed before this batch's rewards were seen."""

    variances: Floats  # [L + 1] between the groups of each level, coarse to fine, then within a prompt
    history: tuple[Floats, Floats, Ints] | None = None  # of known prompts: sums [M], counts [M], levels [M, L]
    ready: bool = False  # whether `variances` may be relied on; until then the baseline is the batch's mean
    scale: float = 1.0  # running root mean square of the advantages


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How completions are drawn from the policy."""

    max_tokens: int
    temperature: float = 1.0  # > 0
    top_p: float = 1.0  # (0, 1]
    top_k: int = 0  # 0: off
    stop: tuple[str, ...] = ()  # the completion ends after the first of these
    seed: int = 0  # with the row's own key it fixes every draw, whatever else is in the batch


class Stateful(Protocol):
    """A part whose state belongs in the checkpoint. States are trees of plain values, arrays and tensors."""

    def state(self) -> dict[str, Any]: ...
    def load_state(self, state: Mapping[str, Any]) -> None: ...


class Engine(Protocol):
    """Generates from the current policy; speaks token ids only."""

    def generate(self, prompts: Sequence[Prompt], keys: Sequence[int], sampling: Sampling) -> list[Completion]:
        """One completion for each prompt [N] (repeat one for several). `keys` [N] select the rows' random streams."""
        ...

    def take_weights(self, tensors: Iterable[tuple[str, torch.Tensor]], version: int) -> None:
        """Take the learner's named tensors as policy `version`."""
        ...

    def close(self) -> None:
        """End whatever generates outside of this process."""
        ...


class PromptStream(Protocol):
    """An endless or finite iterator of prompts that can be continued from `cursor`."""

    cursor: int

    def __iter__(self) -> Iterator[Prompt]: ...
    def __next__(self) -> Prompt: ...


class Task(Protocol):
    """A source of prompts with its own scorer."""

    name: str
    domain: str

    def stream(self, seed: int, *, held_out: bool, cursor: int = 0) -> PromptStream:
        """A reproducible stream of prompts; held-out prompts never appear in a training stream, whatever the seeds."""
        ...

    def score(self, prompt: Prompt, completion: str) -> float:
        """Accuracy in [0, 1] by the task's own scorer."""
        ...


# One reward of one completion: (prompt, completion's text) -> score, or None where it does not apply.
RewardFunction = Callable[[Prompt, str], "float | None"]


class UserError(Exception):
    """A mistake the user can mend: shown as one line, exit code 2, no traceback."""
