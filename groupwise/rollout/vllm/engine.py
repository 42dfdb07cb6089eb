"""vLLM as the engine: token ids and weights go out to a server, token ids and log-probs come back."""

from __future__ import annotations

import hashlib
import math
import shutil
import tempfile
import time
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from groupwise.rollout.stopping import StopStrings
from groupwise.rollout.vllm.client import Client, OtherWeightsError
from groupwise.rollout.vllm.process import ServerProcess
from groupwise.types import Completion, Prompt, Sampling, UserError

MEMORY = Path("/dev/shm")  # files here are kept in memory


class VllmEngine:
    """Generates with the model that a vLLM server holds, after giving it the learner's weights.

    Every request names the weights it wants. A server that holds others (after an update, or because it was started
    anew) says so, gets them through a file in memory, and is asked again. `process`: the server, where it is this
    engine's own; it ends with the engine.
    """

    def __init__(
        self, client: Client, tokenizer: Any, ends: Sequence[int], process: ServerProcess | None = None
    ) -> None:
        self.tokenizer, self.policy_version = tokenizer, 0
        self._client, self._ends, self._process = client, list(ends), process
        self._tensors: dict[str, Tensor] = {}
        self._weights = ""
        status = client.ask("/")
        self.context: int = status["context"]  # most tokens that prompt and completion may have together
        self._dtype: torch.dtype = getattr(torch, status["dtype"])

    def close(self) -> None:
        """End the server, where it is this engine's own."""
        if self._process:
            self._process.close()

    def take_weights(self, tensors: Iterable[tuple[str, Tensor]], version: int) -> None:
        """Take the tensors, named as in a Hugging Face folder; they are sent when they are first generated with.

        Where they are neither on a GPU nor of another type than vLLM's, they are not copied.
        """
        # one after the other: adapters are merged in as they come
        self._tensors = {
            name: tensor.detach().to("cpu", self._dtype if tensor.is_floating_point() else tensor.dtype).contiguous()
            for name, tensor in tensors
        }
        self.policy_version, self._weights = version, uuid.uuid4().hex

    def generate(self, prompts: Sequence[Prompt], keys: Sequence[int], sampling: Sampling) -> list[Completion]:
        """One completion for each prompt [N], in order; `keys` [N] select the random streams.

        Raises UserError where the server is gone, slow or failing, or a prompt is too long for it.
        """
        if not prompts:
            return []
        self._check(prompts, keys, sampling)
        request = {
            "weights": self._weights,
            "prompts": [prompt.token_ids for prompt in prompts],
            "seeds": [row_seed(sampling.seed, key) for key in keys],
            "end_token_ids": self._ends,
            "max_tokens": sampling.max_tokens,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "top_k": sampling.top_k,
            "stop": [string for string in sampling.stop if string],
        }
        answer = self._answer(request)
        stops = StopStrings(sampling.stop, self.tokenizer)
        return [self._completion(told, stops) for _, told in zip(prompts, answer["completions"], strict=True)]

    def _answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """The server's completions by this engine's weights; another trainer may put its own in between."""
        late = time.monotonic() + self._client.deadline
        while True:
            try:
                return self._client.ask("/generate", request)
            except OtherWeightsError:
                if time.monotonic() > late:
                    raise UserError(
                        f"vLLM at {self._client.address} was given other weights again and again for "
                        f"{self._client.deadline:g} s; give each run a server of its own"
                    ) from None
            self._send_weights()

    def _send_weights(self) -> None:
        with _in_memory(self._tensors) as path:
            self._client.ask("/weights", {"weights": self._weights, "path": str(path)})

    def _completion(self, told: dict[str, Any], stops: StopStrings) -> Completion:
        tokens, logprobs = told["token_ids"], told["logprobs"]
        if not all(map(math.isfinite, logprobs)):
            raise UserError(
                "the model's logits are not finite: the policy has diverged; a lower update.learning_rate may help"
            )
        said = tokens[:-1] if tokens[-1] in self._ends else tokens
        return Completion(
            token_ids=tuple(tokens),
            logprobs=tuple(logprobs),
            text=stops.cut(stops.decode(said)),
            finish_reason=told["finish_reason"],
            policy_version=self.policy_version,
        )

    def _check(self, prompts: Sequence[Prompt], keys: Sequence[int], sampling: Sampling) -> None:
        if len(keys) != len(prompts):
            raise ValueError(f"{len(prompts)} prompts, but {len(keys)} keys")
        if empty := [prompt.id for prompt in prompts if not prompt.token_ids]:
            raise ValueError(f"prompt {empty[0]!r} has no token_ids: encode it first")
        if not self._tensors:
            raise ValueError("take_weights comes before generate")
        longest = max(len(prompt.token_ids) for prompt in prompts)
        if longest + sampling.max_tokens > self.context:
            raise UserError(
                f"the longest prompt has {longest} tokens and max_tokens is {sampling.max_tokens}: together more than "
                f"the {self.context} that vLLM has room for; a larger rollout.vllm.memory may help"
            )


def row_seed(seed: int, key: int) -> int:
    """The seed of one row, in [0, 2^63): it depends on the run's seed and the row's key alone."""
    digest = hashlib.blake2b(f"{seed} {key}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


@contextmanager
def _in_memory(tensors: dict[str, Tensor]) -> Iterator[Path]:
    """A safetensors file of the tensors that is gone afterwards; in memory, where there is room."""
    from safetensors.torch import save_file

    size = sum(tensor.nbytes for tensor in tensors.values())
    roomy = MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > 1.1 * size
    with tempfile.TemporaryDirectory(prefix="groupwise-", dir=MEMORY if roomy else None) as folder:
        path = Path(folder, "weights.safetensors")
        save_file(tensors, path)
        yield path
