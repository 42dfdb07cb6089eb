"""Rewards that fail in every way the scorer promises to survive. Workers import this module by name, without pytest."""

import ctypes
import os
import random
import subprocess
import sys
import time
from contextlib import suppress
from fractions import Fraction
from typing import Any

from groupwise.types import Prompt


def length(prompt: Prompt, completion: str) -> float:
    return float(len(completion))


def one(prompt: Prompt, completion: str) -> float:
    return 1.0


def does(prompt: Prompt, completion: str) -> Any:
    """Do what the completion says; else return its length."""
    action, _, rest = completion.partition(" ")
    match action:
        case "spin":
            while True:
                pass
        case "sleep":
            time.sleep(3600)
        case "exit":
            os._exit(3)
        case "segfault":
            ctypes.string_at(0)
        case "raise":
            raise ValueError(f"bad\n{rest}")
        case "sys.exit":
            sys.exit("enough")
        case "unprintable":
            raise _Unprintable
        case "nan" | "inf":
            return float(action)
        case "string":
            return "1.0"
        case "list":
            return [1.0]
        case "none":
            return None
        case "true":
            return True
        case "fraction":
            return Fraction(1, 4)
        case "memory":
            return len(bytearray(2**30))
        case "print":
            print("from print")
            os.write(1, b"from the descriptor\n")
            sys.stderr.write("from stderr\n")
        case "input":
            return len(input())
        case "child":  # hangs with a child of its own, whose process id it leaves in a file
            child = subprocess.Popen(["sleep", "3600"])
            with open(rest, "w") as file:
                file.write(str(child.pid))
            child.wait()
        case "fork":  # comes back twice
            os.fork()
        case "close":
            os.closerange(3, 100)
        case "garbage":
            for descriptor in range(3, 20):
                with suppress(OSError):
                    os.write(descriptor, b"\x00\x00\x00\x05hello")
        case "pid":
            return os.getpid()
        case "modules":
            return "torch" in sys.modules
        case "random":
            import numpy as np

            return random.random() + float(np.random.rand())
    return float(len(completion))


class _Unprintable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


class Judge:
    @staticmethod
    def score(prompt: Prompt, completion: str) -> float:
        return 0.5


def wrong_arguments(prompt: Prompt) -> float:
    return 1.0


not_a_function = 7
