"""Does the Hugging Face hub have a model? One short question, before anything is fetched.

transformers asks the hub for several files and tries each question again and again, so where the hub cannot be reached
a misspelt name would cost half a minute.
"""

from __future__ import annotations

import threading
from queue import Empty, SimpleQueue

from groupwise.types import UserError

DEADLINE = 10.0  # seconds


def check_reachable(name: str, deadline: float = DEADLINE) -> None:
    """Raise UserError unless the hub says that it has the model: one request, answered or not within `deadline`."""
    answer: SimpleQueue[str | None] = SimpleQueue()
    # In a thread, since looking up a host's name knows no timeout; a daemon, so that leaving does not wait for it.
    threading.Thread(target=lambda: answer.put(_why_not(name, deadline)), daemon=True).start()
    try:
        why = answer.get(timeout=deadline)
    except Empty:
        why = f"no answer within {deadline:g} s"
    if why:
        raise UserError(f"model: {name!r} is neither a folder here nor reachable on the hub ({why})")


def _why_not(name: str, timeout: float) -> str | None:
    from huggingface_hub import HfApi, errors

    try:
        HfApi().model_info(name, timeout=timeout)
    except errors.OfflineModeIsEnabled:
        return "HF_HUB_OFFLINE is set, and the hub's cache on this machine does not hold it"
    except errors.RepositoryNotFoundError:
        return "it has no such model, or only shows it after `hf auth login`"
    except errors.HFValidationError:
        return "this cannot be a name there"
    except Exception as error:  # the network can fail in many ways; none of them is worth a traceback
        return (str(error) or type(error).__name__).splitlines()[0]
    return None
