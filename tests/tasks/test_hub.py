"""Data sets of the hub: what is asked of `datasets`, the cache, and one line for all that can go wrong."""

from __future__ import annotations

import json
import shutil
import sys
import threading
import time
from pathlib import Path
from typing import Any

import datasets
import pytest

from groupwise.config import DataConfig
from groupwise.run import hub
from groupwise.tasks.data import DataTask
from groupwise.tasks.hub import load_from_hub
from groupwise.types import UserError

FIRST = "data.path: 'me/tiny' is no file or folder here, and not to be had from the hub "


@pytest.fixture
def reachable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "_ask", lambda kind, name, timeout: None)


@pytest.fixture
def cached(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A data set me/tiny as an earlier run would have left it in the cache."""
    source, cache = tmp_path / "source", tmp_path / "cache"
    for split, size in (("train", 30), ("test", 3)):
        path = source / f"{split}.jsonl"
        path.parent.mkdir(exist_ok=True)
        path.write_text("\n".join(json.dumps({"prompt": f"{split} {i}"}) for i in range(size)))
    datasets.load_dataset(
        "json", data_files={s: str(source / f"{s}.jsonl") for s in ("train", "test")}, cache_dir=cache
    )
    (made,) = (cache / "json").glob("default-*")
    shutil.copytree(made, cache / "me___tiny" / "default")
    for info in (cache / "me___tiny").rglob("dataset_info.json"):
        told = json.loads(info.read_text()) | {"dataset_name": "tiny", "config_name": "default"}
        info.write_text(json.dumps(told))
        for file in info.parent.glob("json-*.arrow"):
            file.rename(file.with_name(file.name.replace("json-", "tiny-")))
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(cache))


def refusal(**keys: Any) -> str:
    began = time.monotonic()
    config = DataConfig(path="me/tiny", **keys)
    with pytest.raises(UserError) as caught:
        load_from_hub(config, config.split)
    assert "\n" not in str(caught.value)
    assert time.monotonic() - began < 5
    return str(caught.value)


def test_what_is_asked_of_datasets(monkeypatch: pytest.MonkeyPatch, reachable: None) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(datasets, "load_dataset", lambda *args, **keys: asked.append((args, keys)))
    load_from_hub(DataConfig(path="me/tiny"), "train")
    load_from_hub(DataConfig(path="me/tiny", subset="main", streaming=True), "test")
    assert asked == [
        (("me/tiny", None), {"split": "train", "streaming": False}),
        (("me/tiny", "main"), {"split": "test", "streaming": True}),
    ]


@pytest.mark.usefixtures("cached")
@pytest.mark.parametrize("streaming", [False, True])
def test_without_a_network_the_cache_will_do(streaming: bool) -> None:
    task = DataTask("t", DataConfig(path="me/tiny", held_out_split="test", streaming=streaming))
    stream = task.stream(0, held_out=False)
    assert {next(stream).text for _ in range(30)} == {f"train {i}" for i in range(30)}
    assert {prompt.text for prompt in task.stream(0, held_out=True)} == {f"test {i}" for i in range(3)}


@pytest.mark.usefixtures("cached")
def test_an_unknown_split_or_subset_names_those_that_there_are() -> None:
    assert refusal(split="trian") == "me/tiny: Unknown split \"trian\". Should be one of ['train', 'test']."
    assert "default" in refusal(subset="mian")


def test_offline_and_not_in_the_cache() -> None:
    assert refusal() == FIRST + "(HF_HUB_OFFLINE is set, and the hub's cache on this machine does not hold it)"


def test_a_hub_that_cannot_be_reached_is_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(hub, "_ask", lambda kind, name, timeout: "Name or service not known")
    assert refusal() == FIRST + "(Name or service not known)"
    assert datasets.config.HF_HUB_OFFLINE is False


def test_a_hub_that_never_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    stop = threading.Event()
    monkeypatch.setattr(hub, "_ask", lambda kind, name, timeout: stop.wait(60))
    monkeypatch.setattr(hub, "DEADLINE", 0.2)
    assert refusal() == FIRST + "(no answer within 0.2 s)"
    stop.set()


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    assert "the hub's data sets need the package datasets: pip install 'groupwise[data]'" in refusal()
