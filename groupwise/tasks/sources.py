"""Where the records of a data set come from: files here, the hub, or what a program has in memory."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from groupwise.config import DataConfig
from groupwise.tasks.hub import load_from_hub
from groupwise.tasks.records import READERS, Joined, Records, Rows, read_file
from groupwise.tasks.streaming import Streamed
from groupwise.types import UserError

_ABOUT = {"dataset_info.json", "dataset_infos.json", "state.json"}  # what `datasets` writes beside the data


def open_records(config: DataConfig, split: str) -> Records | Streamed:
    """The records of a split. Raises UserError that begins with the file or key that is at fault."""
    files = find_files(config.path)
    if files is None:
        return _as_records(load_from_hub(config, split), config.path)
    chosen = _of_split(files, config, split)
    parts = [read_file(path) for path in chosen]
    records = parts[0] if len(parts) == 1 else Joined(parts)
    if len(records) == 0:
        raise UserError(f"{config.path}: is empty")
    return records


def from_memory(data: Any, config: DataConfig, split: str) -> Records | Streamed:
    """The same of a list of mappings, a pandas DataFrame, a Dataset, IterableDataset or DatasetDict of `datasets`."""
    if isinstance(data, Mapping):
        if split not in data:
            raise UserError(f"data has no split {split!r}; it has: {', '.join(map(str, data))}")
        data = data[split]
    elif split != config.split:
        raise UserError("data.held_out_split: the data given have no splits; give a mapping of splits, or leave it out")
    return _as_records(data, config.path)


def _as_records(data: Any, name: str) -> Records | Streamed:
    if hasattr(data, "iloc"):  # pandas writes NaN for what is missing
        data = data.astype(object).where(data.notna(), None).to_dict("records")
    elif hasattr(data, "with_format"):
        data = data.with_format(None)  # plain values, whatever it was set to give
        if not hasattr(data, "__len__"):
            return Streamed(data)
    elif isinstance(data, str | bytes) or not isinstance(data, Iterable):
        raise UserError(f"data: {type(data).__name__} is no list of mappings, DataFrame, Dataset or IterableDataset")
    else:
        data = list(data)
    if len(data) == 0:
        raise UserError(f"{name}: is empty")
    return Rows(data, name)


def find_files(path: str) -> list[Path] | None:
    """The files that `path` names here, in order; None where it looks like a name on the hub.

    Raises UserError for a file that is missing, a pattern without a match and a folder without data.
    """
    place = Path(path).expanduser()
    if place.is_dir():
        found = [file for file in sorted(place.rglob("*")) if _is_data(file.relative_to(place))]
        if not found:
            raise UserError(f"{path}: the folder has no data; allowed extensions: {', '.join(READERS)}")
        return found
    if place.exists():
        return [place]
    if re.search(r"[*?[]", path):
        root = _root(place)
        found = [match for match in sorted(root.glob(str(place.relative_to(root)))) if match.is_file()]
        if not found:
            raise UserError(f"{path}: no file matches{_nearest(place)}")
        return found
    # a name on the hub has at most one slash, and nobody has a folder of the owner's name
    local = place.suffix.lower() in READERS or path.count("/") > 1 or path[:1] in "/.~"
    if local or (len(place.parts) > 1 and place.parent.is_dir()):
        raise UserError(f"{path}: no such file or folder{_nearest(place)}")
    return None


def _is_data(path: Path) -> bool:
    hidden = any(part.startswith((".", "_")) for part in path.parts)
    return path.suffix.lower() in READERS and not hidden and path.name not in _ABOUT


def _of_split(files: list[Path], config: DataConfig, split: str) -> list[Path]:
    """Those with the subset's and the split's name as words in their path.

    Where no file has the word `train`, all but those of the held-out split are trained on.
    """
    root = _root(Path(config.path).expanduser())
    paths = {file: file.relative_to(root) for file in files}
    words = {file: {*path.parts, *re.split(r"\W|_", str(path))} for file, path in paths.items()}
    if config.subset is not None:
        files = _with_word(files, words, "subset", config.subset)
    if split == config.split == "train" and not any("train" in words[file] for file in files):
        kept = [file for file in files if config.held_out_split not in words[file]]
        if not kept:
            raise UserError(f"{config.path}: every file is of held_out_split {config.held_out_split!r}")
        return kept
    return _with_word(files, words, "split" if split == config.split else "held_out_split", split)


def _with_word(files: list[Path], words: Mapping[Path, set[str]], key: str, word: str) -> list[Path]:
    found = [file for file in files if word in words[file]]
    if not found:
        names = ", ".join(file.name for file in files[:10])
        raise UserError(f"data.{key}: no file has {word!r} as a word in its path; there are: {names}")
    return found


def _root(place: Path) -> Path:
    """The folder of a file or a pattern; a folder itself."""
    return place if place.is_dir() else _root(place.parent)


def _nearest(place: Path) -> str:
    parent = place.parent
    there = sorted(entry.name for entry in parent.iterdir()) if parent.is_dir() else []
    near = difflib.get_close_matches(place.name, there, cutoff=0.5)
    return f"; nearest names: {', '.join(near)}" if near else ""
