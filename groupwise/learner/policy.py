"""Loading and saving the policy: any Hugging Face causal language model with its tokenizer."""

from __future__ import annotations

import os
import shutil
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

import torch
import transformers
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from groupwise.types import UserError

EMBEDDED = ("seedling",)


def resolve_model(name: str) -> str:
    """The folder or hub id behind a recipe's `model`. Raises UserError where a folder holds no model."""
    if name in EMBEDDED:
        return str(resources.files("groupwise") / "assets" / name)
    folder = Path(name).expanduser()
    if not folder.is_dir():
        if folder.exists() or name.startswith((".", "/", "~")) or name.count("/") > 1:
            raise UserError(f"model: {name} is not a folder with a Hugging Face model")
        return name
    if not (folder / "config.json").exists():
        raise UserError(f"model: {name} has no config.json; it is not a Hugging Face model folder")
    if not any(folder.glob("*.safetensors")) and not any(folder.glob("*.bin")):
        raise UserError(f"model: {name} has a config.json but no weights (*.safetensors)")
    return str(folder)


def pick_device(wanted: str) -> torch.device:
    """auto: the GPU where there is one. Raises UserError for a GPU that is not there."""
    if wanted == "cuda" and not torch.cuda.is_available():
        raise UserError("device: 'cuda' was asked for, but torch sees no GPU; use --device cpu or auto")
    return torch.device("cuda" if wanted != "cpu" and torch.cuda.is_available() else "cpu")


def set_threads(threads: int) -> int:
    """Use this many CPU threads; 0: one per core this process may use. Returns the number."""
    count = threads or len(os.sched_getaffinity(0))
    torch.set_num_threads(count)
    return count


def compute_dtype(wanted: str, device: torch.device) -> torch.dtype:
    """The type of the matrix products. auto: bfloat16 where the machine multiplies it natively, else float32."""
    if wanted != "auto":
        return {"float32": torch.float32, "bfloat16": torch.bfloat16}[wanted]
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
    flags = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    return torch.bfloat16 if "avx512_bf16" in flags or "amx_bf16" in flags else torch.float32


def autocast(device: torch.device, dtype: torch.dtype) -> torch.autocast:
    """Context in which the matrix products run in `dtype` while weights stay float32."""
    return torch.autocast(device.type, dtype=dtype, enabled=dtype is not torch.float32)


class Policy(NamedTuple):
    """A model in float32 with its tokenizer; `dtype` is that of the weights it was loaded from, and is saved in."""

    model: PreTrainedModel
    tokenizer: Any
    dtype: torch.dtype


def load_policy(name: str, device: torch.device) -> Policy:
    """Load a model for training on `device`. Raises UserError for what cannot be loaded."""
    source = resolve_model(name)
    transformers.utils.logging.disable_progress_bar()
    try:
        dtype = getattr(AutoConfig.from_pretrained(source), "dtype", None) or torch.float32
        tokenizer = AutoTokenizer.from_pretrained(source)
        model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32)
    except (OSError, ValueError) as error:
        raise UserError(f"model: {name} cannot be loaded: {str(error).splitlines()[0]}") from None
    return Policy(model.to(device).train(), tokenizer, dtype)  # type: ignore[arg-type]


def save_policy(policy: Policy, folder: Path) -> None:
    """A plain Hugging Face folder that transformers and vLLM load; it appears only when it is whole."""
    model, beside = policy.model, folder.with_name(f".{folder.name}.tmp")
    shutil.rmtree(beside, ignore_errors=True)
    state = {name: tensor.detach().to("cpu", policy.dtype) for name, tensor in model.state_dict().items()}
    before = model.config.dtype
    model.config.dtype = policy.dtype
    try:
        model.save_pretrained(beside, state_dict=state)
    finally:
        model.config.dtype = before
    policy.tokenizer.save_pretrained(beside)
    shutil.rmtree(folder, ignore_errors=True)
    beside.rename(folder)
