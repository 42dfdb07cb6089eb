"""Loading and saving the policy: any Hugging Face causal language model with its tokenizer."""

from __future__ import annotations

import os
import shutil
from importlib import resources
from pathlib import Path
from textwrap import shorten
from typing import Any, NamedTuple

import torch
import transformers
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from groupwise.learner.hub import check_reachable
from groupwise.types import UserError

EMBEDDED = ("seedling",)


def resolve_model(name: str) -> str:
    """The folder or hub id behind a recipe's `model`. Raises UserError where a folder holds no model."""
    embedded = name in EMBEDDED
    folder = Path(str(resources.files("groupwise") / "assets" / name)) if embedded else Path(name).expanduser()
    if not folder.is_dir():
        if embedded:
            raise UserError(f"model: this installation of groupwise is without its model {name}")
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
    """Load a folder, or a model of the hub, for training on `device`. Raises UserError for what cannot be loaded.

    A hub model that is in the local cache is taken from there; the hub is not asked for a newer one. The model is in
    evaluation mode, which turns its dropout off: the policy that learns must be the policy that generated.
    """
    source = resolve_model(name)
    _bound_caches()
    transformers.utils.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        policy = _load(source)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise UserError(f"model: {name} cannot be loaded: {shorten(str(error), 250, placeholder=' ...')}") from None
    return policy._replace(model=policy.model.to(device).eval())  # type: ignore[arg-type]


def _bound_caches() -> None:
    """Keep memory flat on CPU, where torch and oneDNN each keep a compiled product for every shape they have met.

    By default they keep 1024 each, and micro-batches have ever new shapes. Read at the first product.
    """
    for name in ("LRU_CACHE_CAPACITY", "ONEDNN_PRIMITIVE_CACHE_CAPACITY"):
        os.environ.setdefault(name, "64")


def _load(source: str) -> Policy:
    try:
        return _read(source, local_files_only=True)
    except OSError:
        if Path(source).is_dir():
            raise
    check_reachable(source)
    return _read(source, local_files_only=False)


def _read(source: str, *, local_files_only: bool) -> Policy:
    where = {"local_files_only": local_files_only}
    dtype = getattr(AutoConfig.from_pretrained(source, **where), "dtype", None) or torch.float32
    tokenizer = AutoTokenizer.from_pretrained(source, **where)
    loaded: Any = AutoModelForCausalLM.from_pretrained(
        source, dtype=torch.float32, output_loading_info=True, ignore_mismatched_sizes=True, **where
    )
    model, report = loaded
    wrong = sorted({*report["missing_keys"], *(name for name, *_ in report["mismatched_keys"])})
    if wrong:  # transformers would go on with random numbers in their place
        raise ValueError(f"{len(wrong)} of its weights are missing or of another shape than it says, e.g. {wrong[0]}")
    return Policy(model, tokenizer, dtype)


def context_length(model: PreTrainedModel) -> int | None:
    """Most tokens that prompt and completion may have together; None where the model does not say."""
    length: int | None = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    return length


def save_policy(policy: Policy, folder: Path) -> None:
    """A plain Hugging Face folder that transformers and vLLM load; it appears only when it is whole."""
    model, beside = policy.model, folder.with_name(f".{folder.name}.tmp")
    shutil.rmtree(beside, ignore_errors=True)
    stored: dict[tuple[int, torch.Size], torch.Tensor] = {}  # tied weights stay one tensor, and are written once
    state = {}
    for name, tensor in model.state_dict().items():
        place = (tensor.data_ptr(), tensor.shape)
        if place not in stored:
            stored[place] = tensor.to("cpu", policy.dtype if tensor.is_floating_point() else tensor.dtype)
        state[name] = stored[place]
    dtype = model.config.dtype
    try:
        model.save_pretrained(beside, state_dict=state)
        model.config.dtype = policy.dtype  # what was written is that of the live model
        model.config.save_pretrained(beside)
        policy.tokenizer.save_pretrained(beside)
    except BaseException:
        shutil.rmtree(beside, ignore_errors=True)
        raise
    finally:
        model.config.dtype = dtype
    shutil.rmtree(folder, ignore_errors=True)
    beside.rename(folder)
