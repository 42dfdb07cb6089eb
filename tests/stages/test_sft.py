"""Fine-tuning: it learns, it continues to the bit after a kill, and what it draws is what generation will see."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import tiny_model

from groupwise.config import SftDataConfig, SftRecipe
from groupwise.learner.policy import Policy, load_policy
from groupwise.recipes import dump_recipe
from groupwise.rollout.encode import encode
from groupwise.run.checkpoint import checkpoints
from groupwise.run.metrics import read_metrics
from groupwise.stages.sft import Demonstrations, end_token, train_sft
from groupwise.types import Prompt, UserError

CPU = torch.device("cpu")
SUMS: dict[str, Any] = {
    "name": "chain_sum",
    "params": {"min_terms": 2, "max_terms": 2, "min_digits": 1, "max_digits": 1},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def loaded(folder: Path) -> Policy:
    return load_policy(str(folder), CPU)


def recipe(folder: Path | str = "seedling", **keys: Any) -> SftRecipe:
    base: dict[str, Any] = {
        "model": str(folder), "steps": 4, "threads": 1, "length": 128, "rows": 3, "micro_rows": 2, "data": [SUMS],
        "update": {"dtype": "float32", "learning_rate": 3e-3},
    }  # fmt: skip
    return SftRecipe(**{**base, **keys})


def data(loaded: Policy, **keys: Any) -> Demonstrations:
    return Demonstrations(recipe(**keys), loaded.tokenizer, end_token(loaded.model, loaded.tokenizer))


def texts(loaded: Policy, demonstrations: Demonstrations, draws: int = 1) -> list[str]:
    """The packed demonstrations, decoded, with their special tokens."""
    found = []
    for _ in range(draws):
        rows = demonstrations.draw()
        for ids, segments in zip(rows.input_ids, rows.segments, strict=True):
            found += [loaded.tokenizer.decode(ids[segments == s]) for s in range(1, int(segments.max()) + 1)]
    return found


def write_lines(path: Path, *records: tuple[str, str]) -> Path:
    path.write_text("\n".join(json.dumps({"prompt": p, "completion": c}) for p, c in records))
    return path


def test_it_learns(folder: Path, tmp_path: Path) -> None:
    train_sft(recipe(folder, steps=30, checkpoint={"every": 0}), tmp_path)
    rows = read_metrics(tmp_path / "metrics.jsonl")
    assert [row["step"] for row in rows] == list(range(1, 31))
    assert rows[0]["loss"] > 4  # near log 96, the vocabulary's
    assert rows[-1]["loss"] < 0.6 * rows[0]["loss"]
    assert all(row["policy/grad_norm"] > 0 and row["tokens/per_second"] > 0 for row in rows)
    assert rows[-1]["demonstrations/dropped"] == 0
    assert [path.name for path in checkpoints(tmp_path / "checkpoints")] == ["step-000030.pt"]
    assert load_policy(str(tmp_path / "model"), CPU).dtype == torch.float32


KILLED = """
import os, signal, sys
from pathlib import Path
from groupwise.config import SftRecipe
from groupwise.recipes import load_recipe
from groupwise.stages import sft

learn, calls = sft.learn, []

def killed(*args):
    calls.append(1)
    if len(calls) == 6:
        os.kill(os.getpid(), signal.SIGKILL)
    return learn(*args)

sft.learn = killed
sft.train_sft(load_recipe(SftRecipe, Path(sys.argv[1]), []), Path(sys.argv[2]))
"""


def outcome(run: Path) -> tuple[dict[str, bytes], list[dict[str, Any]]]:
    """The bytes of the model, and the metrics but for the clock's."""
    rows = [{k: v for k, v in row.items() if k != "tokens/per_second"} for row in read_metrics(run / "metrics.jsonl")]
    return {path.name: path.read_bytes() for path in (run / "model").iterdir()}, rows


def test_a_killed_run_continues_to_the_bit(folder: Path, tmp_path: Path) -> None:
    """Killed in step 6; the checkpoint is of step 4, within the file's second pass and with demonstrations waiting."""
    path = write_lines(tmp_path / "file.jsonl", *((f"what is {i}", f"it is {i}" * (i % 5)) for i in range(11)))
    plan = recipe(
        folder,
        steps=8,
        data=[{"name": "mine", "file": str(path)}, {**SUMS, "styles": {"careful": 1, "slip": 1}}],
        checkpoint={"every": 2},
        update={"dtype": "float32", "schedule": "cosine", "warmup": 2, "weight_decay": 0.1},
    )
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    for run in (whole, broken):
        run.mkdir()
    (tmp_path / "r.yaml").write_text(dump_recipe(plan))
    command = [sys.executable, "-c", KILLED, str(tmp_path / "r.yaml"), str(broken)]
    killed = subprocess.run(command, capture_output=True, text=True, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert len(read_metrics(broken / "metrics.jsonl")) == 5
    assert not (broken / "model").exists()
    train_sft(plan, broken, resume=True)
    train_sft(plan, whole)
    assert outcome(broken) == outcome(whole)
    train_sft(plan, broken, resume=True)  # once more does no harm
    assert outcome(broken) == outcome(whole)


def test_an_interrupted_run_saves_and_says_how_to_go_on(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from groupwise.stages import sft

    learn = sft.learn

    def interrupted(*args: Any) -> float:
        signal.raise_signal(signal.SIGINT)
        return learn(*args)

    with monkeypatch.context() as patch:
        patch.setattr(sft, "learn", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train_sft(recipe(folder), tmp_path)
    assert f"Saved after update 1; groupwise sft --resume {tmp_path} continues." in capsys.readouterr().out
    assert [path.name for path in checkpoints(tmp_path / "checkpoints")] == ["step-000001.pt"]
    assert not (tmp_path / "model").exists()
    train_sft(recipe(folder), tmp_path, resume=True)
    assert [row["step"] for row in read_metrics(tmp_path / "metrics.jsonl")] == [1, 2, 3, 4]


def test_interrupted_in_its_last_checkpoint_it_has_saved(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from groupwise.stages import sft

    save = sft.save_checkpoint

    def interrupted(*args: Any) -> None:
        signal.raise_signal(signal.SIGINT)
        save(*args)

    monkeypatch.setattr(sft, "save_checkpoint", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train_sft(recipe(folder, checkpoint={"every": 0}), tmp_path)
    assert [path.name for path in checkpoints(tmp_path / "checkpoints")] == ["step-000004.pt"]


def test_demonstrations_begin_as_generation_does_and_end_where_it_stops(loaded: Policy, tmp_path: Path) -> None:
    path = write_lines(tmp_path / "a.jsonl", ("what?", "this"))
    demonstrations = data(loaded, data=[{"name": "mine", "file": str(path)}])
    rows = demonstrations.draw()
    prompt = Prompt(id="", task="", domain="", text="what?")
    (encoded,) = encode([prompt], loaded.tokenizer)
    answer = loaded.tokenizer("this", add_special_tokens=False)["input_ids"]
    tokens = [*encoded.token_ids, *answer, loaded.tokenizer.eos_token_id]
    assert rows.input_ids[0, : len(tokens)].tolist() == tokens
    learned = rows.labels[0, : len(tokens)]
    assert learned[learned >= 0].tolist() == tokens[len(encoded.token_ids) :]


def test_a_tokenizer_without_an_end_token_ends_with_the_models(loaded: Policy) -> None:
    class Endless:
        eos_token_id = None

    assert end_token(loaded.model, loaded.tokenizer) == loaded.tokenizer.eos_token_id
    assert end_token(loaded.model, Endless()) == loaded.model.generation_config.eos_token_id
    with pytest.raises(UserError, match="no eos_token"):
        end_token(object(), Endless())


def test_sources_are_mixed_by_weight_and_styles_by_share(loaded: Policy, tmp_path: Path) -> None:
    path = write_lines(tmp_path / "a.jsonl", ("from a file", "yes"))
    styles = {"careful": 1.0, "shortcut": 3.0}
    mixed = data(loaded, rows=30, data=[{"name": "mine", "file": str(path), "weight": 3}, {**SUMS, "styles": styles}])
    found = texts(loaded, mixed)
    sums = [text for text in found if "from a file" not in text]
    assert len(sums) == pytest.approx(len(found) / 4, abs=1)
    careful = [text for text in sums if "<think>" in text]
    assert 0.1 < len(careful) / len(sums) < 0.4


def test_the_same_seed_draws_the_same_and_another_seed_another(loaded: Policy) -> None:
    first = texts(loaded, data(loaded), draws=2)
    assert first == texts(loaded, data(loaded), draws=2)
    assert first != texts(loaded, data(loaded, seed=1), draws=2)
    assert len(set(first)) > len(first) / 2


def test_nothing_is_lost_between_draws(loaded: Policy, tmp_path: Path) -> None:
    path = write_lines(tmp_path / "a.jsonl", *((str(i), "x" * i) for i in range(1, 40)))
    demonstrations = data(loaded, length=30, data=[{"name": "mine", "file": str(path)}])
    found = texts(loaded, demonstrations, draws=6)
    state = demonstrations.state()
    waiting = [loaded.tokenizer.decode(tokens) for tokens, _ in state["waiting"]]
    assert len(found) + len(waiting) + state["dropped"] == state["count"]
    assert waiting
    passes = state["count"] / 39
    assert all(abs((found + waiting).count(text) - passes) < 1 for text in set(found))


def test_a_saved_state_continues(loaded: Policy) -> None:
    demonstrations, other = data(loaded), data(loaded)
    demonstrations.draw()
    other.load_state(json.loads(json.dumps(demonstrations.state())))
    assert texts(loaded, other, draws=3) == texts(loaded, demonstrations, draws=3)


def test_demonstrations_longer_than_a_row_are_dropped_and_counted(loaded: Policy, tmp_path: Path) -> None:
    path = write_lines(tmp_path / "a.jsonl", ("short", "yes"), ("long", "x" * 200))
    demonstrations = data(loaded, data=[{"name": "mine", "file": str(path)}], rows=2)
    found = texts(loaded, demonstrations, draws=3)
    assert all("short" in text for text in found)
    assert len(found) <= demonstrations.dropped + 10
    assert demonstrations.dropped >= 10
    assert demonstrations.state()["dropped"] == demonstrations.dropped


def test_where_all_are_too_long_it_ends_with_a_word(loaded: Policy, tmp_path: Path) -> None:
    path = write_lines(tmp_path / "a.jsonl", ("long", "x" * 200))
    demonstrations = data(loaded, data=[{"name": "mine", "file": str(path)}])
    with pytest.raises(UserError, match="length: all demonstrations are longer than 128 tokens"):
        demonstrations.draw()


@pytest.mark.parametrize(
    ("sources", "says"),
    [
        ([], "data: the recipe names no demonstrations"),
        ([SUMS, SUMS], "data: two sources are named 'chain_sum'"),
        ([{**SUMS, "styles": {}}], "data chain_sum: styles: no style has a share above 0"),
        ([{**SUMS, "styles": {"slip": 0.0}}], "data chain_sum: styles: no style has a share above 0"),
        ([{"name": "rubiks_cube"}], "data rubiks_cube: no worked solutions for 'rubiks_cube'; there are: base_conv"),
        ([{"name": "mine", "file": "nowhere.jsonl"}], "data mine: nowhere.jsonl: no such file"),
    ],
)
def test_impossible_sources(sources: list[Any], says: str, loaded: Policy) -> None:
    with pytest.raises(UserError, match=says):
        data(loaded, data=sources)


def test_rows_longer_than_the_model_can_read(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="length: 300 is more than the 256 tokens that"):
        train_sft(recipe(folder, length=300), tmp_path)


def test_micro_rows_is_no_part_of_what_is_learned(folder: Path, tmp_path: Path) -> None:
    weights = []
    for micro_rows in (1, 3):
        run = tmp_path / str(micro_rows)
        run.mkdir()
        train_sft(recipe(folder, micro_rows=micro_rows, steps=2), run)
        weights.append(torch.cat([p.flatten() for p in load_policy(str(run / "model"), CPU).model.parameters()]))
    assert (weights[0] - weights[1]).norm() < 1e-4 * weights[1].norm()


def test_the_default_recipe_keeps_the_memory_of_a_step_low() -> None:
    defaults = SftRecipe(data=[SftDataConfig(name="gcd")])
    assert defaults.micro_rows * defaults.length <= 4096


def test_several_processes_are_refused(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match="groupwise sft runs in one process, on one device; start it without torchrun"):
        train_sft(recipe(folder), tmp_path)
    assert list(tmp_path.iterdir()) == []
