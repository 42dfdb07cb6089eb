"""How the command line reads its words: a parser that raises plain errors, and what a subcommand is."""

from __future__ import annotations

import shutil
from argparse import SUPPRESS, ArgumentParser, HelpFormatter, Namespace
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from pydantic import BaseModel

from groupwise.keys import describe, keys
from groupwise.mistakes import did_you_mean, mistake, nearest


class Parser(ArgumentParser):
    """Raises a UserError where argparse would print its usage and exit; abbreviates nothing."""

    def __init__(self, **options: Any) -> None:
        super().__init__(allow_abbrev=False, add_help=False, **options)

    def error(self, message: str) -> NoReturn:
        raise mistake(message.removeprefix("argument ").replace(": expected one argument", " needs a value"))

    def add_keys(self, kind: type[BaseModel], taken: Iterable[str] = ()) -> dict[str, dict[str, Any]]:
        """Add an option for each key of a recipe but for those taken; returns the keys that were added."""
        free = {key: field for key, field in keys(kind).items() if "[]" not in key and f"--{key}" not in taken}
        for key in free:
            self.add_argument(f"--{key}", dest=f"--{key}", default=SUPPRESS, help=SUPPRESS)
        return free

    def parse(self, words: Sequence[str], known: Iterable[str]) -> Namespace:
        """Parse all words; `known` are the keys to propose in place of an unknown option."""
        arguments, rest = self.parse_known_intermixed_args(words)
        if not rest:
            return arguments
        word = next((word for word in rest if word.startswith("-")), None)
        if word is None:
            raise mistake(f"unexpected argument {rest[0]!r}")
        key = word.partition("=")[0]
        raise mistake(f"unknown key {key}{did_you_mean(nearest(key.lstrip('-'), known), '--') or '; see --help'}")


@dataclass(frozen=True, kw_only=True)
class Command:
    """A subcommand: what it calls, and which arguments it takes besides the keys of its recipe."""

    run: Callable[[Namespace, list[str]], None]
    usage: str
    arguments: Mapping[str, Mapping[str, Any]]  # as argparse takes them
    recipe: type[BaseModel] | None = None
    show_keys: bool = False

    def _parser(self) -> Parser:
        parser = Parser(
            usage=self.usage,
            description=self.summary,
            formatter_class=lambda prog: HelpFormatter(prog, max_help_position=30, width=_width()),
        )
        for flag, options in self.arguments.items():
            parser.add_argument(flag, **options)
        return parser

    @property
    def summary(self) -> str:
        return self.run.__doc__ or ""

    def help(self) -> str:
        text = self._parser().format_help()
        if self.recipe and self.show_keys:
            text += "\nKeys of the recipe, nested in the file, dotted as options; the option wins:\n\n"
            text += describe(self.recipe, _width()) + "\n"
        return text

    def __call__(self, words: Sequence[str]) -> None:
        parser = self._parser()
        known = [flag.removeprefix("--") for flag in self.arguments if flag.startswith("--")]
        if self.recipe:
            known += parser.add_keys(self.recipe, self.arguments)
        arguments = parser.parse(words, known)
        overrides = [f"{flag}={value}" for flag, value in vars(arguments).items() if flag.startswith("--")]
        self.run(arguments, overrides)


def _width() -> int:
    return max(72, min(120, shutil.get_terminal_size().columns))
