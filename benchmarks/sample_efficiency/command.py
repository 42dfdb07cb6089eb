"""The command line of the study."""

from __future__ import annotations

import os
from argparse import ArgumentParser, RawDescriptionHelpFormatter

os.environ.setdefault("HF_HUB_OFFLINE", "1")


def main(description: str | None) -> None:
    from sample_efficiency import learning, overhead, report, variance

    parser = ArgumentParser(description=description, formatter_class=RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    for name, module in (("variance", variance), ("learning", learning), ("report", report), ("overhead", overhead)):
        command = commands.add_parser(name, help=(module.__doc__ or "").splitlines()[0])
        module.add_arguments(command)
        command.set_defaults(run=module.run)
    arguments = parser.parse_args()
    arguments.run(arguments)
