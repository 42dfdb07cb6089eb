"""What groupwise adds to vLLM's workers (`worker_extension_cls`); called there by `LLM.collective_rpc`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from torch import Tensor


class WorkerExtension:
    """A base class that vLLM puts under its worker: `self` is the worker."""

    def read_weights(self: Any, path: str) -> None:
        """Replace the model's weights by the tensors of a safetensors file, named as in its Hugging Face folder.

        Raises ValueError where the file lacks some, which vLLM itself only logs.
        """
        model = self.get_model()
        missing = {name for name, _ in model.named_parameters()}
        load = model.load_weights

        def load_and_count(weights: Iterable[tuple[str, Tensor]]) -> Any:
            loaded = load(weights)
            missing.difference_update(missing if loaded is None else loaded)  # None: this model does not tell
            return loaded

        model.load_weights = load_and_count
        try:
            self.reload_weights(weights_iterator=_tensors(path))
        finally:
            del model.load_weights
        if self.device.type == "cpu":
            _pack_heads(model)
        if missing:
            raise ValueError(f"{len(missing)} of the model's weights did not come, e.g. {min(missing)}")

    def divide_logits(self: Any, temperature: float) -> None:
        """From now on the model's logits are float32 and divided by `temperature`.

        Then sampling at temperature 1 is sampling at `temperature`, and vLLM's raw log-probs are those of
        logits / temperature before top-k and top-p, which none of its own `logprobs_mode` gives.
        """
        model = self.get_model()
        vars(model).pop("compute_logits", None)  # the function that was put here last
        plain = model.compute_logits

        def divided(*args: Any, **kwargs: Any) -> Tensor | None:
            logits: Tensor | None = plain(*args, **kwargs)  # None: another worker has them
            return None if logits is None else logits.float() / temperature

        model.compute_logits = divided


def _pack_heads(model: Any) -> None:
    """Pack output heads anew: vLLM packs them for the CPU, and reloads only those that are not tied (0.32)."""
    from vllm.model_executor.layers.vocab_parallel_embedding import ParallelLMHead

    for module in model.modules():
        if isinstance(module, ParallelLMHead):
            module.quant_method.process_weights_after_loading(module)


def _tensors(path: str) -> Iterator[tuple[str, Tensor]]:
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        for name in file.keys():  # noqa: SIM118 - it is not a mapping
            yield name, file.get_tensor(name)
