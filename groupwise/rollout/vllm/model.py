"""The model inside the server: vLLM itself. Requests and answers are plain values, as they travel in JSON."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any


class Model:
    """One model in vLLM. `weights` names the tensors that it holds; None: those of its own folder.

    `source`: a Hugging Face folder or hub id; `memory`: the share of the GPU's memory, or without one of the machine's,
    for weights and cache.
    """

    def __init__(self, source: str, *, dtype: str = "auto", memory: float = 0.3) -> None:
        import torch

        on_cpu = not torch.accelerator.is_available()
        if on_cpu:  # compilation takes a minute there, and gains little; read when vLLM is imported
            os.environ.setdefault("TORCHDYNAMO_DISABLE", "1")
        from vllm import LLM

        self.weights: str | None = None
        self._broken = False
        self._source = source
        self._llm = LLM(
            source,
            dtype=dtype,
            gpu_memory_utilization=memory,
            max_model_len=-1,  # all of the model's positions, or as many as fit
            enforce_eager=on_cpu,
            generation_config="vllm",  # only what a request says
            logprobs_mode="raw_logprobs",
            worker_extension_cls="groupwise.rollout.vllm.worker.WorkerExtension",
        )

    def status(self) -> dict[str, Any]:
        """What the trainer has to know; `context` is the number of tokens that prompt and completion may have."""
        config = self._llm.llm_engine.model_config
        return {
            "model": self._source,
            "weights": self.weights,
            "dtype": str(config.dtype).removeprefix("torch."),
            "context": config.max_model_len,
        }

    def take(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Read the weights at `path` and call them `weights`. Whatever fails leaves a model that is of no use."""
        if self._broken:
            raise RuntimeError("an earlier update of the weights failed; start the server again")
        self.weights, self._broken = None, True
        self._llm.collective_rpc("read_weights", args=(request["path"],))
        self._llm.reset_prefix_cache()  # it was computed by the old ones
        self.weights, self._broken = request["weights"], False
        return {}

    def generate(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """One completion for each of `prompts` (token ids), with the random stream of its seed in `seeds`."""
        from vllm import SamplingParams

        self._llm.collective_rpc("divide_logits", args=(request["temperature"],))
        sampling = [
            SamplingParams(
                max_tokens=request["max_tokens"],
                top_p=request["top_p"],
                top_k=request["top_k"],
                stop=request["stop"],
                stop_token_ids=request["end_token_ids"],
                ignore_eos=True,  # the ids above are all of them
                include_stop_str_in_output=True,
                detokenize=bool(request["stop"]),
                logprobs=0,  # those of the chosen tokens only
                seed=seed,
            )
            for seed in request["seeds"]
        ]
        prompts = [{"prompt_token_ids": ids} for ids in request["prompts"]]
        outputs = self._llm.generate(prompts, sampling, use_tqdm=False)
        return {"completions": [_completion(output.outputs[0]) for output in outputs]}


def _completion(output: Any) -> dict[str, Any]:
    if output.finish_reason not in ("stop", "length"):
        raise RuntimeError(f"vLLM ended a completion by {output.finish_reason!r}")
    ids = list(output.token_ids)
    return {
        "token_ids": ids,
        "logprobs": [found[token].logprob for token, found in zip(ids, output.logprobs, strict=True)],
        "finish_reason": output.finish_reason,
    }
