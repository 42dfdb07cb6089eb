"""Models in and out: what a folder must hold, what is said when it does not, and that a saved model is the model."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from torch import nn
from transformers import AutoModelForCausalLM, AutoTokenizer

from groupwise.learner import policy as module
from groupwise.learner.policy import (
    Policy,
    compute_dtype,
    load_policy,
    pick_device,
    resolve_model,
    save_policy,
    set_threads,
)
from groupwise.types import UserError

from .cases import CPU, flat_weights


@pytest.fixture
def spoilt(folder: Path, tmp_path: Path) -> Path:
    """A model folder to spoil."""
    return Path(shutil.copytree(folder, tmp_path / "spoilt"))


def set_config(folder: Path, **keys: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **keys}))


def cut_weights(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])


SPOIL: dict[str, tuple[Callable[[Path], object], str]] = {
    "no config": (lambda f: (f / "config.json").unlink(), "has no config.json; it is not a Hugging Face model folder"),
    "no weights": (
        lambda f: (f / "model.safetensors").unlink(),
        r"has a config.json but no weights \(\*.safetensors\)",
    ),
    "config is not JSON": (lambda f: (f / "config.json").write_text("{"), "not a valid JSON file"),
    "unknown architecture": (lambda f: set_config(f, model_type="nonsense"), "nonsense"),
    "cut weights": (cut_weights, "cannot be loaded: "),
    "weights are no weights": (lambda f: (f / "model.safetensors").write_bytes(b"x" * 99), "cannot be loaded: "),
    "a layer is missing": (lambda f: set_config(f, num_hidden_layers=3), r"9 of its weights are missing.*layers\.2\."),
    "other shapes": (lambda f: set_config(f, intermediate_size=48), "6 of its weights are missing or of another shape"),
    "no tokenizer": (
        lambda f: [(f / name).unlink() for name in ("tokenizer.json", "tokenizer_config.json")],
        "tokenizer",
    ),
    "tokenizer is not JSON": (lambda f: (f / "tokenizer.json").write_text("{"), "cannot be loaded: "),
}


@pytest.mark.parametrize(("spoil", "says"), SPOIL.values(), ids=SPOIL)
def test_a_folder_that_is_no_model_is_told_in_one_line(
    spoil: Callable[[Path], object], says: str, spoilt: Path
) -> None:
    spoil(spoilt)
    with pytest.raises(UserError, match=says) as caught:
        load_policy(str(spoilt), CPU)
    message = str(caught.value)
    assert message.startswith(f"model: {spoilt}")
    assert "\n" not in message
    assert len(message) < len(str(spoilt)) + 300


@pytest.mark.parametrize("name", ["./nowhere", "/nowhere/at/all", "~/nowhere", "a/b/c"])
def test_what_looks_like_a_path_must_be_a_folder(name: str) -> None:
    with pytest.raises(UserError, match=f"model: {name} is not a folder with a Hugging Face model"):
        load_policy(name, CPU)


def test_a_file_is_no_model(folder: Path) -> None:
    with pytest.raises(UserError, match="is not a folder"):
        load_policy(str(folder / "model.safetensors"), CPU)


def test_the_embedded_model_is_found_by_name_and_missed_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "EMBEDDED", ("seedling", "sapling"))
    with pytest.raises(UserError, match="this installation of groupwise is without its model sapling"):
        resolve_model("sapling")


def test_names_of_the_hub_pass_and_folders_come_first(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert resolve_model("someone/model") == "someone/model"
    monkeypatch.chdir(tmp_path)
    shutil.copytree(folder, tmp_path / "someone" / "model")
    assert resolve_model("someone/model") == str(Path("someone/model"))
    assert load_policy("someone/model", CPU).dtype == torch.float32
    monkeypatch.setenv("HOME", str(tmp_path))
    assert resolve_model("~/someone/model") == str(tmp_path / "someone" / "model")


def test_a_loaded_policy_is_float32_and_without_dropout(loaded: Policy) -> None:
    assert {p.dtype for p in loaded.model.parameters()} == {torch.float32}
    assert all(p.requires_grad for p in loaded.model.parameters())
    assert not loaded.model.training


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_model_is_saved_in_the_dtype_it_came_in_and_is_the_same_again(
    dtype: torch.dtype, folder: Path, tmp_path: Path
) -> None:
    source, saved = tmp_path / "source", tmp_path / "saved"
    AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).save_pretrained(source)
    AutoTokenizer.from_pretrained(folder).save_pretrained(source)
    policy = load_policy(str(source), CPU)
    assert policy.dtype == dtype
    assert policy.model.dtype == torch.float32
    save_policy(policy, saved)
    assert sorted(p.name for p in saved.iterdir()) == sorted(p.name for p in source.iterdir())
    assert len({p.stat().st_mode for p in saved.iterdir()}) == 1  # who may read one file may read all
    assert (saved / "config.json").read_text() == (source / "config.json").read_text()
    with safe_open(saved / "model.safetensors", "pt") as after, safe_open(source / "model.safetensors", "pt") as before:
        assert set(after.keys()) == set(before.keys())  # tied weights are stored once
        for name in before.keys():  # noqa: SIM118  (it is no dict)
            assert after.get_tensor(name).dtype == dtype
            assert torch.equal(after.get_tensor(name), before.get_tensor(name))
    assert policy.model.config.dtype == torch.float32  # the live model is left as it was
    assert policy.model.dtype == torch.float32


def test_a_saved_model_loads_in_transformers_and_generates_the_same(loaded: Policy, tmp_path: Path) -> None:
    save_policy(loaded, tmp_path / "model")
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "model")
    text = [{"role": "user", "content": "1+1"}]
    ids = tokenizer.apply_chat_template(text, add_generation_prompt=True, return_tensors="pt", return_dict=False)
    assert ids.tolist()[0] == loaded.tokenizer.apply_chat_template(text, add_generation_prompt=True, return_dict=False)
    with torch.no_grad():
        assert torch.equal(again(ids).logits, loaded.model(ids).logits)


def test_integer_buffers_stay_integers(loaded: Policy, tmp_path: Path) -> None:
    policy = loaded._replace(model=copy.deepcopy(loaded.model), dtype=torch.bfloat16)
    policy.model.model.register_buffer("steps_seen", torch.tensor([2**24 + 1]))
    save_policy(policy, tmp_path / "model")
    with safe_open(tmp_path / "model" / "model.safetensors", "pt") as file:
        assert file.get_tensor("model.steps_seen").tolist() == [2**24 + 1]


class Full(OSError):
    pass


def test_the_folder_appears_only_when_it_is_whole(
    loaded: Policy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_policy(loaded, tmp_path / "model")
    before = {p.name: p.read_bytes() for p in (tmp_path / "model").iterdir()}

    def fail(folder: Path) -> None:
        assert (folder / "model.safetensors").exists()  # the larger part is written
        raise Full("no space left on device")

    policy = loaded._replace(model=copy.deepcopy(loaded.model), dtype=torch.bfloat16)
    with monkeypatch.context() as patch:
        patch.setattr(type(loaded.tokenizer), "save_pretrained", lambda self, folder: fail(folder))
        with pytest.raises(Full):
            save_policy(policy, tmp_path / "model")
        with pytest.raises(Full):
            save_policy(policy, tmp_path / "other")
    assert {p.name: p.read_bytes() for p in (tmp_path / "model").iterdir()} == before
    assert [p.name for p in tmp_path.iterdir()] == ["model"]
    assert policy.model.config.dtype == torch.float32


def test_a_newer_model_takes_the_place_of_the_older(loaded: Policy, tmp_path: Path) -> None:
    save_policy(loaded, tmp_path / "model")
    (tmp_path / "model" / "left over").touch()
    (tmp_path / ".model.tmp").mkdir()  # by a process that was killed
    (tmp_path / ".model.tmp" / "half").touch()
    moved = copy.deepcopy(loaded.model)
    with torch.no_grad():
        moved.get_output_embeddings().weight.add_(1)
    save_policy(loaded._replace(model=moved), tmp_path / "model")
    assert [p.name for p in tmp_path.iterdir()] == ["model"]
    assert not {"left over", "half"} & {p.name for p in (tmp_path / "model").iterdir()}
    again: nn.Module = load_policy(str(tmp_path / "model"), CPU).model
    assert torch.equal(flat_weights(again), flat_weights(moved))


def test_the_device_and_what_to_do_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert pick_device("auto") == pick_device("cpu") == CPU
    with pytest.raises(UserError, match="device: 'cuda' was asked for, but torch sees no GPU"):
        pick_device("cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert pick_device("auto").type == pick_device("cuda").type == "cuda"
    assert pick_device("cpu") == CPU


def test_threads_and_compute_types() -> None:
    before = torch.get_num_threads()
    try:
        assert set_threads(1) == torch.get_num_threads() == 1
        assert set_threads(0) >= 1
    finally:
        torch.set_num_threads(before)
    assert compute_dtype("float32", CPU) == torch.float32
    assert compute_dtype("bfloat16", CPU) == torch.bfloat16
    assert compute_dtype("auto", CPU) in (torch.float32, torch.bfloat16)
