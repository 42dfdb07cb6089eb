"""Does the Hugging Face hub have something? One short question, before anything is fetched.

transformers and datasets ask the hub for several files and try each question again and again, so where the hub cannot
be reached a misspelt name would cost half a minute.
"""

from __future__ import annotations

import threading
from queue import Empty, SimpleQueue
from typing import Literal

DEADLINE = 10.0  # seconds


def why_not(kind: Literal["model", "dataset"], name: str, deadline: float = DEADLINE) -> str | None:
    """Why the hub does not say, asked once and within `deadline`, that it has this; None where it does."""
    answer: SimpleQueue[str | None] = SimpleQueue()
    # In a thread, since looking up a host's name knows no timeout; a daemon, so that leaving does not wait for it.
    threading.Thread(target=lambda: answer.put(_ask(kind, name, deadline)), daemon=True).start()
    try:
        return answer.get(timeout=deadline)
    except Empty:
        return f"no answer within {deadline:g} s"


def _ask(kind: Literal["model", "dataset"], name: str, timeout: float) -> str | None:
    from huggingface_hub import HfApi, errors

    hub = HfApi()
    try:
        (hub.model_info if kind == "model" else hub.dataset_info)(name, timeout=timeout)
    except errors.OfflineModeIsEnabled:
        return "HF_HUB_OFFLINE is set, and the hub's cache on this machine does not hold it"
    except errors.RepositoryNotFoundError:
        return f"it has no such {kind}, or only shows it after `hf auth login`"
    except errors.HFValidationError:
        return "this cannot be a name there"
    except Exception as error:  # the network can fail in many ways; none of them is worth a traceback
        return (str(error) or type(error).__name__).splitlines()[0]
    return None
