"""Data sets of the Hugging Face hub, from its cache on this machine where the hub cannot be reached."""

from __future__ import annotations

import threading
from queue import Empty, SimpleQueue
from typing import Any

from groupwise.config import DataConfig
from groupwise.types import UserError

DEADLINE = 10.0  # seconds


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
    why = _why_not(config.path)
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


def _why_not(name: str) -> str | None:
    """Why the hub does not answer that it has the data set; None where it does."""
    answer: SimpleQueue[str | None] = SimpleQueue()
    # In a thread, since looking up a host's name knows no timeout; a daemon, so that leaving does not wait for it.
    threading.Thread(target=lambda: answer.put(_ask(name, DEADLINE)), daemon=True).start()
    try:
        return answer.get(timeout=DEADLINE)
    except Empty:
        return f"no answer within {DEADLINE:g} s"


def _ask(name: str, timeout: float) -> str | None:
    from huggingface_hub import HfApi, errors

    try:
        HfApi().dataset_info(name, timeout=timeout)
    except errors.OfflineModeIsEnabled:
        return "HF_HUB_OFFLINE is set, and the cache on this machine does not hold it"
    except errors.RepositoryNotFoundError:
        return "it has no such data set, or only shows it after `hf auth login`"
    except errors.HFValidationError:
        return "this cannot be a name there"
    except Exception as error:  # the network can fail in many ways; none of them is worth a traceback
        return _line(error)
    return None


def _line(error: Exception) -> str:
    """The error's message on one line."""
    return " ".join(str(error).split())[:300] or type(error).__name__
