"""Loading and saving the policy: any Hugging Face causal language model with its tokenizer, or an adapter of one."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from textwrap import shorten
from typing import Any, NamedTuple, TypeVar

import torch
import transformers
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel
from transformers.utils.hub import cached_file

from groupwise.config import LoraConfig
from groupwise.learner.hub import check_reachable
from groupwise.learner.lora import attach, merge_adapter, save_adapter
from groupwise.types import UserError

T = TypeVar("T")
EMBEDDED = ("seedling",)
ADAPTER = "adapter"  # the folder beside a merged model
ADAPTER_CONFIG = "adapter_config.json"


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
    adapter = (folder / ADAPTER_CONFIG).exists()
    if not adapter and not (folder / "config.json").exists():
        raise UserError(f"model: {name} has no config.json; it is not a Hugging Face model folder")
    if not any(folder.glob("*.safetensors")) and not any(folder.glob("*.bin")):
        config = ADAPTER_CONFIG if adapter else "config.json"
        raise UserError(f"model: {name} has a{'n' * adapter} {config} but no weights (*.safetensors)")
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
    """A model with its tokenizer; `dtype` is that of the weights it was loaded from, and is saved in."""

    model: PreTrainedModel
    tokenizer: Any
    dtype: torch.dtype
    adapter: Any = None  # peft's wrapper of the model, where only adapters are trained


def load_policy(
    name: str,
    device: torch.device,
    *,
    lora: LoraConfig | None = None,
    seed: int = 0,
    compute: torch.dtype = torch.float32,
) -> Policy:
    """Load a folder, or a model of the hub, for training on `device`. Raises UserError for what cannot be loaded.

    Weights are float32. With `lora` of a rank above 0 they are frozen beside float32 adapters drawn from `seed`, and
    stay in the type they were saved in where the `compute` type is not float32. An adapter's folder is loaded as its
    base with the adapter merged in.

    A hub model that is in the local cache is taken from there; the hub is not asked for a newer one. The model is in
    evaluation mode, which turns its dropout off: the policy that learns must be the policy that generated.
    """
    adapted = lora is not None and lora.rank > 0
    _bound_caches()
    transformers.utils.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    with _told(name):
        policy = _load(resolve_model(name), None if adapted and compute is not torch.float32 else torch.float32)
        policy = policy._replace(model=policy.model.to(device).eval())  # type: ignore[arg-type]
    return policy._replace(adapter=attach(policy.model, lora, seed)) if lora is not None and adapted else policy


def load_config(name: str) -> Any:
    """The Hugging Face config of a model, or of an adapter's base, without its weights. UserError as `load_policy`."""
    with _told(name):
        return _local_first(_read_config, resolve_model(name))


@contextmanager
def _told(name: str) -> Iterator[None]:
    """Inside, whatever is wrong with the model `name` is a UserError."""
    try:
        yield
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise UserError(f"model: {name} cannot be loaded: {shorten(str(error), 250, placeholder=' ...')}") from None


def _bound_caches() -> None:
    """Keep memory flat on CPU, where torch and oneDNN each keep a compiled product for every shape they have met.

    By default they keep 1024 each, and micro-batches have ever new shapes. Read at the first product.
    """
    for name in ("LRU_CACHE_CAPACITY", "ONEDNN_PRIMITIVE_CACHE_CAPACITY"):
        os.environ.setdefault(name, "64")


def _local_first(read: Callable[..., T], source: str) -> T:
    try:
        return read(source, local_files_only=True)
    except OSError:
        if Path(source).is_dir():
            raise
    check_reachable(source)
    return read(source, local_files_only=False)


def _load(source: str, dtype: torch.dtype | None) -> Policy:
    """The policy with weights of this type, or as they were saved."""

    def read(source: str, **where: bool) -> Policy:
        if base := _base(source, **where):
            return _merged(_load(resolve_model(base), torch.float32), source, dtype, **where)
        return _read(source, dtype, **where)

    return _local_first(read, source)


def _read_config(source: str, **where: bool) -> Any:
    base = _base(source, **where)
    return _local_first(_read_config, resolve_model(base)) if base else AutoConfig.from_pretrained(source, **where)


def _base(source: str, **where: bool) -> str | None:
    """The model that the adapter in `source` belongs to; None where there is no adapter."""
    path = cached_file(source, ADAPTER_CONFIG, _raise_exceptions_for_missing_entries=False, **where)
    if path is None or (Path(path).parent / "config.json").exists():
        return None
    base: str | None = json.loads(Path(path).read_text()).get("base_model_name_or_path")
    if not base:
        raise ValueError(f"its {ADAPTER_CONFIG} does not say which model it belongs to")
    return base


def _merged(base: Policy, source: str, dtype: torch.dtype | None, **where: bool) -> Policy:
    model: Any = merge_adapter(base.model, source, **where).to(dtype or base.dtype)
    own = cached_file(source, "tokenizer_config.json", _raise_exceptions_for_missing_entries=False, **where)
    model.name_or_path = source  # what an adapter of this model would belong to
    return Policy(model, AutoTokenizer.from_pretrained(source, **where) if own else base.tokenizer, base.dtype)


def _read(source: str, dtype: torch.dtype | None, **where: bool) -> Policy:
    saved = getattr(AutoConfig.from_pretrained(source, **where), "dtype", None) or torch.float32
    tokenizer = AutoTokenizer.from_pretrained(source, **where)
    loaded: Any = AutoModelForCausalLM.from_pretrained(
        source,
        dtype=dtype or saved,
        output_loading_info=True,
        ignore_mismatched_sizes=True,
        adapter_kwargs=where,  # else transformers asks the hub for an adapter
        **where,
    )
    model, report = loaded
    wrong = sorted({*report["missing_keys"], *(name for name, *_ in report["mismatched_keys"])})
    if wrong:  # transformers would go on with random numbers in their place
        raise ValueError(f"{len(wrong)} of its weights are missing or of another shape than it says, e.g. {wrong[0]}")
    return Policy(model, tokenizer, saved)


def context_length(model: PreTrainedModel) -> int | None:
    """Most tokens that prompt and completion may have together; None where the model does not say."""
    length: int | None = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    return length


def deliver(policy: Policy, folder: Path, *, merge: bool = True, write: bool = True) -> Policy:
    """Save the policy in `folder`, and make the live model what was saved: rounded, and with its adapter merged in.

    With an adapter: `merge` leaves the adapter alone in `adapter/` beside the folder; without it, `folder` itself is
    the adapter, with the tokenizer. `write=False` saves nothing: another process does.
    """
    adapter = policy.adapter
    if adapter is not None and write:
        with _appearing(folder.with_name(ADAPTER) if merge else folder) as beside:
            save_adapter(adapter, beside)
            if not merge:
                policy.tokenizer.save_pretrained(beside)
    if adapter is not None and not merge:
        return policy
    if adapter is not None:
        policy = policy._replace(model=adapter.merge_and_unload(), adapter=None)
    with torch.no_grad():
        for weights in policy.model.parameters():
            weights.copy_(weights.to(policy.dtype))
    if write:
        save_policy(policy, folder)
    return policy


def save_policy(policy: Policy, folder: Path) -> None:
    """A plain Hugging Face folder that transformers and vLLM load; it appears only when it is whole."""
    model = policy.model
    stored: dict[tuple[int, torch.Size], torch.Tensor] = {}  # tied weights stay one tensor, and are written once
    state = {}
    for name, tensor in model.state_dict().items():
        place = (tensor.data_ptr(), tensor.shape)
        if place not in stored:
            stored[place] = tensor.to("cpu", policy.dtype if tensor.is_floating_point() else tensor.dtype)
        state[name] = stored[place]
    dtype = model.config.dtype
    try:
        with _appearing(folder) as beside:
            model.save_pretrained(beside, state_dict=state)
            model.config.dtype = policy.dtype  # what was written is that of the live model
            model.config.save_pretrained(beside)
            policy.tokenizer.save_pretrained(beside)
    finally:
        model.config.dtype = dtype


@contextmanager
def _appearing(folder: Path) -> Iterator[Path]:
    """A folder to write into, which takes the place of `folder` once it is whole."""
    beside = folder.with_name(f".{folder.name}.tmp")
    shutil.rmtree(beside, ignore_errors=True)
    try:
        yield beside
    except BaseException:
        shutil.rmtree(beside, ignore_errors=True)
        raise
    for weights in beside.glob("*.safetensors"):  # the library lets nobody but their owner read them
        weights.chmod(next(beside.glob("*config.json")).stat().st_mode)
    shutil.rmtree(folder, ignore_errors=True)
    beside.rename(folder)
