"""A process that has imported everything and forks itself for each `groupwise ...`, which saves seconds a run.

A child is a real process: it can be killed, sent signals, and kept from writing large files. Beyond that it can be
told to do something to itself at an exact place: [place, n, when, action] has it, `before` or `after` the n-th call
of the function `place` ("module:name", as the caller sees it), do `action`: "kill" itself by SIGKILL, "interrupt"
itself by SIGINT, or "touch FILE".
"""

import importlib
import itertools
import json
import os
import resource
import signal
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parents[1]), str(HERE)]

IMPORTS = (
    "groupwise.cli",
    "groupwise.stages.grpo",
    "groupwise.stages.evaluate",
    "pyarrow.parquet",
    "reasoning_gym",
    "torch._dynamo",  # torch.optim asks for it when it is first used
    "peft",
    "transformers.models.gpt2.modeling_gpt2",
    "transformers.models.llama.modeling_llama",
    "transformers.models.gemma3.modeling_gemma3",
    "transformers.models.qwen3.modeling_qwen3",
    "transformers.models.qwen3_moe.modeling_qwen3_moe",
)


def main() -> None:
    """Read a request a line; answer with the child's process id, or with the exit status of the one waited for."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job of a shell starts with it ignored
    for module in IMPORTS:
        importlib.import_module(module)
    print("ready", flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        print(wait(**request) if "child" in request else fork(request), flush=True)


def wait(child: int, patience: float) -> int:
    """The child's exit status, or minus the signal that ended it: SIGALRM where it outlived our patience."""
    deadline = time.monotonic() + patience
    while True:
        found, status = os.waitpid(child, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > deadline:
            os.kill(child, signal.SIGALRM)
        time.sleep(0.01)


def fork(request: dict[str, Any]) -> int:
    child = os.fork()
    if child == 0:
        live(request)
    return child


def live(request: dict[str, Any]) -> NoReturn:
    status = 1
    try:
        os.chdir(request["cwd"])
        for descriptor, name in enumerate((os.devnull, request["out"], request["err"])):
            os.dup2(os.open(name, os.O_RDWR | os.O_CREAT | os.O_TRUNC), descriptor)
        sys.path.insert(0, request["cwd"])
        if request["largest_file"]:
            resource.setrlimit(resource.RLIMIT_FSIZE, (request["largest_file"], resource.RLIM_INFINITY))
        for place, count, when, action in request["at"]:
            plant(place, count, when, action)
        from groupwise.cli import main

        status = main(request["argv"])
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def plant(place: str, count: int, when: str, action: str) -> None:
    module, _, path = place.partition(":")
    *owners, name = path.split(".")
    owner: Any = importlib.import_module(module)
    for part in owners:
        owner = getattr(owner, part)
    original, calls = getattr(owner, name), itertools.count(1)

    def planted(*args: Any, **options: Any) -> Any:
        due = next(calls) == count
        if due and when == "before":
            act(action.split())
        result = original(*args, **options)
        if due and when == "after":
            act(action.split())
        return result

    setattr(owner, name, planted)


def act(words: Sequence[str]) -> None:
    match words:
        case ["kill"]:
            os.kill(os.getpid(), signal.SIGKILL)
        case ["interrupt"]:
            os.kill(os.getpid(), signal.SIGINT)
        case ["touch", name]:
            Path(name).touch()
        case _:
            raise ValueError(words)


if __name__ == "__main__":
    main()
