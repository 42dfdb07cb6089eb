"""Where records come from: files, folders, patterns, splits, and what a program has in memory."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import datasets
import pandas as pd
import pytest

from groupwise.config import DataConfig
from groupwise.tasks.sources import find_files, from_memory, open_records
from groupwise.types import UserError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two subsets with two splits each, and things that are no data."""
    for subset in ("main", "other"):
        for name in ("train-00000-of-00002", "train-00001-of-00002", "test-00000-of-00001"):
            path = tmp_path / "set" / subset / f"{name}.jsonl"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps({"prompt": f"{subset} {name}"}))
    for name in (".hidden.jsonl", "README.md", "dataset_infos.json", ".cache/x.jsonl"):
        (tmp_path / "set" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "set" / name).write_text("[]")
    return tmp_path / "set"


def texts(config: DataConfig, split: str = "train") -> list[str]:
    return [record["prompt"] for record in open_records(config, split)]


def test_splits_and_subsets_of_a_folder_are_words_in_its_paths(folder: Path) -> None:
    config = DataConfig(path=str(folder), subset="main", held_out_split="test")
    assert texts(config) == ["main train-00000-of-00002", "main train-00001-of-00002"]
    assert texts(config, "test") == ["main test-00000-of-00001"]
    assert len(texts(DataConfig(path=str(folder)))) == 4
    assert len(texts(DataConfig(path=f"{folder}/*/test*"))) == 2
    assert len(texts(DataConfig(path=f"{folder}/**/train*.jsonl"))) == 4
    assert texts(DataConfig(path=str(folder / "main" / "test-00000-of-00001.jsonl"))) == ["main test-00000-of-00001"]


def test_without_a_file_for_training_all_but_the_held_out_ones(tmp_path: Path) -> None:
    for name in ("a", "b", "test"):
        (tmp_path / f"{name}.jsonl").write_text(json.dumps({"prompt": name}))
    assert texts(DataConfig(path=str(tmp_path))) == ["a", "b", "test"]
    assert texts(DataConfig(path=str(tmp_path), held_out_split="test")) == ["a", "b"]


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ({"subset": "mian"}, "data.subset: no file has 'mian' as a word in its path; there are: "),
        ({"split": "dev"}, "data.split: no file has 'dev' as a word"),
        ({"held_out_split": "dev"}, "data.held_out_split: no file has 'dev' as a word"),
    ],
)
def test_a_split_or_subset_that_is_not_there(folder: Path, keys: dict[str, Any], says: str) -> None:
    config = DataConfig(path=str(folder), **keys)
    with pytest.raises(UserError) as caught:
        open_records(config, config.held_out_split or config.split)
    assert str(caught.value).startswith(says)
    assert "train-00000-of-00002.jsonl" in str(caught.value) and "\n" not in str(caught.value)


def test_what_is_missing_names_the_nearest(folder: Path) -> None:
    near = folder / "main" / "train-00000-of-00003.jsonl"
    with pytest.raises(UserError, match=r"no such file or folder; nearest names: train-00000-of-00002.jsonl"):
        find_files(str(near))
    with pytest.raises(UserError, match=r"no such file or folder; nearest names: main"):
        find_files(str(folder / "mani"))
    with pytest.raises(UserError, match=r"no file matches"):
        find_files(f"{folder}/*.csv")
    (folder / "empty").mkdir()
    with pytest.raises(UserError, match=r"the folder has no data; allowed extensions: .jsonl"):
        find_files(str(folder / "empty"))
    with pytest.raises(UserError, match=r"README.md: unknown extension '.md'"):
        open_records(DataConfig(path=str(folder / "README.md")), "train")
    (folder / "none.csv").write_text("prompt\n")
    with pytest.raises(UserError, match=r"none.csv: is empty"):
        open_records(DataConfig(path=str(folder / "none.csv")), "train")


def test_names_on_the_hub() -> None:
    assert find_files("gsm8k") is find_files("openai/gsm8k") is None
    for path in ("data/a/b", "./gsm8k", "gsm8k.jsonl", "nobody/gsm8k.csv"):
        with pytest.raises(UserError, match="no such file or folder"):
            find_files(path)


ROWS = [{"prompt": "a", "n": 1.0}, {"prompt": "b", "n": None}]


@pytest.mark.parametrize(
    "data",
    [
        ROWS,
        tuple(ROWS),
        (row for row in ROWS),
        pd.DataFrame(ROWS),
        datasets.Dataset.from_list(ROWS),
        datasets.Dataset.from_list(ROWS).with_format("numpy"),
        datasets.DatasetDict(train=datasets.Dataset.from_list(ROWS)),
        {"train": ROWS, "test": []},
        datasets.Dataset.from_list(ROWS).to_iterable_dataset(),
    ],
    ids=lambda data: type(data).__name__,
)
def test_data_in_memory(data: Any) -> None:
    assert [dict(record) for record in from_memory(data, DataConfig(path="data"), "train")] == ROWS


@pytest.mark.parametrize(
    ("data", "split", "says"),
    [
        ({"train": ROWS}, "test", "data has no split 'test'; it has: train"),
        (ROWS, "test", "data.held_out_split: the data given have no splits"),
        ([], "train", "data: is empty"),
        (3, "train", "data: int is no list of mappings"),
        ("a.jsonl", "train", "data: str is no list of mappings"),
    ],
)
def test_data_in_memory_that_do_not_do(data: Any, split: str, says: str) -> None:
    with pytest.raises(UserError, match=says):
        from_memory(data, DataConfig(path="data", held_out_split="test"), split)
