"""Data sets of the Hugging Face hub, from its cache on this machine where the hub cannot be reached."""

from __future__ import annotations

from typing import Any

from groupwise.config import DataConfig
from groupwise.run import hub
from groupwise.types import UserError


def load_from_hub(config: DataConfig, split: str) -> Any:
    """One split: a Dataset, or an IterableDataset with `streaming`. Raises UserError where there is none to be had.

    The hub is asked once and briefly; without an answer `datasets` would ask for half a minute. What is in the cache
    is then used.
    """
    try:
        import datasets
    except ImportError:
        raise UserError(
            f"data.path: {config.path!r} is no file or folder here, and the hub's data sets need the package datasets: "
            "pip install 'groupwise[data]'"
        ) from None
    why = hub.why_not("dataset", config.path, hub.DEADLINE)
    offline = datasets.config.HF_HUB_OFFLINE
    datasets.config.HF_HUB_OFFLINE = offline or why is not None
    try:
        streaming = config.streaming and why is None
        return datasets.load_dataset(config.path, config.subset, split=split, streaming=streaming)
    except (ConnectionError, FileNotFoundError) as error:
        told = why or _line(error)
        raise UserError(
            f"data.path: {config.path!r} is no file or folder here, and not to be had from the hub ({told})"
        ) from None
    except Exception as error:  # `datasets` names the subsets and splits that there are
        raise UserError(f"{config.path}: {_line(error)}") from None
    finally:
        datasets.config.HF_HUB_OFFLINE = offline


def _line(error: Exception) -> str:
    """The error's message on one line."""
    return " ".join(str(error).split())[:300] or type(error).__name__
