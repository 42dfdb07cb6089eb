"""What one update does, from drawn prompts to the row of metrics, and what it leaves when it fails."""

from __future__ import annotations

import json
import math
import zlib
from pathlib import Path
from typing import Any

import pytest
import torch

from groupwise.learner import policy
from groupwise.run.checkpoint import save_checkpoint
from groupwise.run.metrics import read_metrics
from groupwise.stages.grpo import Trainer
from groupwise.types import Prompt, UserError

from .inside import train_inside
from .runs import as_bytes, differences, of_this_machine, rollouts
from .stage_rewards import digits, has_a_nine

RLOO = {"kind": "rloo"}  # under it a group without variance teaches nothing


def comparable(row: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in row.items() if not of_this_machine(name)}


def records(trainer: Trainer, step: int) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = rollouts(trainer.run_dir)[f"step-{step:06d}.parquet"].to_pylist()
    return found


def some_fail(prompt: Prompt, completion: str) -> float | str:
    """A quarter has no reward; a reward is never as low as 0."""
    chance = zlib.crc32(f"{prompt.id}{completion}".encode()) % 4
    return "judge: timeout after 1 s" if chance == 0 else 1.0 + digits(prompt, completion)


def test_a_dropped_rollout_is_no_rollout_of_reward_zero(tiny: Path, tmp_path: Path) -> None:
    trainer = train_inside(tmp_path / "run", tiny, some_fail, advantage=RLOO)
    row = trainer.step()
    found = records(trainer, 1)
    dropped = [record for record in found if record["dropped"]]
    kept = [record for record in found if not record["dropped"]]
    assert len(found) == 16
    assert 0 < len(dropped) < 16
    assert row["rollouts/dropped"] == row["rollouts/dropped/judge"] == len(dropped)
    assert row["reward/mean"] == pytest.approx(sum(record["reward"] for record in kept) / len(kept))
    assert row["reward/mean"] > 1
    assert row["groups/size_mean"] == pytest.approx(len(kept) / len({record["group"] for record in kept}))
    for record in dropped:
        assert (record["reward"], record["advantage"], record["group"]) == (None, 0, -1)
    for group in {record["group"] for record in kept}:  # leave-one-out among those that were scored
        advantages = [record["advantage"] for record in kept if record["group"] == group]
        assert sum(advantages) == pytest.approx(0, abs=1e-9)


def test_dropped_rollouts_teach_nothing(tiny: Path, tmp_path: Path) -> None:
    trainer = train_inside(tmp_path / "run", tiny, some_fail)
    seen: list[Any] = []
    update = trainer.learner.update

    def watched(kept: Any) -> dict[str, float]:
        seen.extend(kept)
        return update(kept)

    trainer.learner.update = watched  # type: ignore[method-assign]
    row = trainer.step()
    assert len(seen) == 16 - row["rollouts/dropped"]
    assert not any(rollout.dropped for rollout in seen)


def test_rollouts_know_the_weights_that_made_them(tiny: Path, tmp_path: Path) -> None:
    trainer = train_inside(tmp_path / "run", tiny, digits)
    for update in (1, 2, 3):
        trainer.step()
        assert {record["policy_version"] for record in records(trainer, update)} == {update - 1}
    trainer.checkpoint()
    again = train_inside(tmp_path / "run", tiny, digits)
    again.restore()
    again.step()
    assert {record["policy_version"] for record in records(again, 4)} == {3}


def test_totals_add_up(tiny: Path, tmp_path: Path) -> None:
    trainer = train_inside(tmp_path / "run", tiny, has_a_nine, rollout={"zero_variance": "redraw"}, advantage=RLOO)
    found = [trainer.step() for _ in range(3)]
    values = trainer.totals.values
    every = [record for step in (1, 2, 3) for record in records(trainer, step)]
    assert values["rollouts"] == len(every) == found[-1]["rollouts/total"] > 48
    assert values["tokens"] == sum(record["length"] for record in every) == found[-1]["tokens/total"]
    assert values["discarded"] == sum(row["rollouts/discarded"] for row in found) > 0
    assert values["train_seconds"] == pytest.approx(sum(row["time/total"] for row in found))
    for row in found:
        assert row["rollouts/rounds"] <= 1 + trainer.recipe.rollout.max_redraws


def test_when_no_group_has_variance_the_update_is_empty_and_the_run_goes_on(tiny: Path, tmp_path: Path) -> None:
    def same(prompt: Prompt, completion: str) -> float:
        return 0.5

    trainer = train_inside(
        tmp_path / "run", tiny, same, rollout={"zero_variance": "redraw", "max_redraws": 2}, advantage=RLOO
    )
    before = as_bytes(trainer.learner.state()["model"])
    row = trainer.step()
    assert (row["rollouts/rounds"], row["rollouts/discarded"], row["rollouts/total"]) == (3, 48, 48)
    assert (row["groups/count"], row["loss"], row["policy/grad_norm"]) == (0, 0, 0)
    assert row["reward/mean"] == 0.5
    assert math.isnan(row["policy/mismatch"])
    assert differences(before, as_bytes(trainer.learner.state()["model"])) == []
    assert trainer.step()["rollouts/total"] == 96
    assert {record["policy_version"] for record in records(trainer, 2)} == {1}


def said_in(record: dict[str, Any], tokenizer: Any) -> list[int]:
    """The tokens of a completion's text."""
    said: list[int] = tokenizer(record["completion"], add_special_tokens=False)["input_ids"]
    return said + [tokenizer.eos_token_id] * (record["finish_reason"] == "stop")


def kl_of(model: Path, record: dict[str, Any], said: list[int], trainer: Trainer) -> float:
    """log pi_old / pi_ref of a completion, summed, by transformers alone."""
    from transformers import AutoModelForCausalLM

    question = [{"role": "user", "content": record["prompt"]}]
    prompt = trainer.policy.tokenizer.apply_chat_template(question, add_generation_prompt=True, return_dict=False)
    with torch.no_grad():
        logits = AutoModelForCausalLM.from_pretrained(model)(torch.tensor([prompt + said])).logits[0]
    every = logits[len(prompt) - 1 : -1].log_softmax(-1)
    reference = every.gather(-1, torch.tensor(said)[:, None]).sum()
    return float(record["logprob_mean"] * len(said) - reference)


def test_k1_is_a_reward_of_its_own(tiny: Path, tmp_path: Path) -> None:
    exactly: dict[str, Any] = {"update": {"dtype": "float32"}, "rollout": {"stop": []}}
    trainer = train_inside(tmp_path / "run", tiny, digits, loss={"beta": 0.5, "kl": "k1"}, **exactly)
    rows = [trainer.step() for _ in range(2)]
    assert rows[0]["reward/kl/mean"] == pytest.approx(0, abs=1e-4)  # the policy still is the reference
    moved = 0
    for record in records(trainer, 2):
        named = json.loads(record["rewards"])
        assert named.keys() == {"marks", "kl"}
        assert named["marks"] == digits(None, record["completion"])  # type: ignore[arg-type]
        assert record["reward"] == pytest.approx(named["marks"] + named["kl"])
        said = said_in(record, trainer.policy.tokenizer)
        if len(said) == record["length"]:  # else there were special tokens, which the text does not show
            assert named["kl"] == pytest.approx(-0.5 * kl_of(tiny, record, said, trainer), abs=1e-4)
            moved += abs(named["kl"]) > 1e-2
    assert moved > 3
    assert rows[1]["reward/mean"] == pytest.approx(rows[1]["reward/marks/mean"] + rows[1]["reward/kl/mean"])


def test_beta_zero_keeps_no_reference_and_adds_nothing(tiny: Path, tmp_path: Path) -> None:
    every = []
    for kl in ("k1", "k3"):
        trainer = train_inside(tmp_path / kl, tiny, digits, loss={"beta": 0.0, "kl": kl})
        every.append([comparable(trainer.step()) for _ in range(2)])
        assert all(json.loads(record["rewards"]).keys() == {"marks"} for record in records(trainer, 2))
        assert "reward/kl/mean" not in every[-1][0]
    assert differences(*every) == []


def test_an_overlong_penalty_is_a_reward_of_its_own(tiny: Path, tmp_path: Path) -> None:
    options = {"overlong": "penalise", "overlong_buffer": 4}
    trainer = train_inside(tmp_path / "run", tiny, digits, rollout=options)
    row = trainer.step()
    penalties = []
    for record in records(trainer, 1):
        named = json.loads(record["rewards"])
        # one that ended by itself on the last token was not cut
        length = record["length"] if record["finish_reason"] == "length" else min(record["length"], 11)
        assert named["overlong"] == min(0.0, (12 - 4 - length) / 4)
        assert record["reward"] == pytest.approx(named["marks"] + named["overlong"])
        penalties.append(named["overlong"])
    assert row["reward/overlong/mean"] == pytest.approx(sum(penalties) / 16)


def broken(prompt: Prompt, completion: str) -> float | str:
    return "judge: raised ValueError: no digits"


def test_an_update_that_cannot_be_scored_is_repeated_whole(tiny: Path, tmp_path: Path) -> None:
    whole = train_inside(tmp_path / "whole", tiny, digits)
    expected = [comparable(whole.step()) for _ in range(3)]

    failing = train_inside(tmp_path / "failing", tiny, digits)
    scorer: Any = failing.collector._scorer
    failing.step()
    scorer.mark = broken
    with pytest.raises(UserError, match=r"every rollout of update 2 failed: judge raised ValueError: no digits"):
        failing.step()
    scorer.mark = digits
    assert differences(expected[1], comparable(failing.step())) == []  # in the same process

    again = train_inside(tmp_path / "failing", tiny, digits)
    again.restore()
    assert again.steps_done == 1
    assert differences(expected[1:], [comparable(again.step()) for _ in range(2)]) == []


@pytest.mark.parametrize("error", [RuntimeError("out of memory"), KeyboardInterrupt()])
def test_a_half_done_update_is_never_saved(tiny: Path, tmp_path: Path, error: BaseException) -> None:
    trainer = train_inside(tmp_path / "run", tiny, digits)
    trainer.checkpoint()
    before = (tmp_path / "run" / "checkpoints" / "step-000000.pt").read_bytes()

    def fails(*args: Any) -> Any:
        raise error

    trainer.learner.update = fails  # type: ignore[method-assign]
    with pytest.raises(type(error)):
        trainer.step()
    (only,) = (tmp_path / "run" / "checkpoints").iterdir()
    assert only.read_bytes() == before


def test_delivering_rounds_what_is_measured_as_what_is_saved(tiny: Path, tmp_path: Path) -> None:
    trainer = train_inside(tmp_path / "run", tiny, digits)
    trainer.policy = trainer.policy._replace(dtype=torch.bfloat16)
    trainer.step()
    measured: list[Any] = []

    def evaluate(label: str) -> dict[str, Any]:
        measured.append({name: value.clone() for name, value in trainer.engine.model.state_dict().items()})
        return {}

    trainer.evaluate = evaluate  # type: ignore[method-assign]
    trainer.deliver()
    saved = policy.load_policy(str(tmp_path / "run" / "model"), torch.device("cpu")).model.state_dict()
    assert measured[0].keys() == saved.keys()
    assert all(torch.equal(measured[0][name], saved[name]) for name in saved)


def test_the_delivered_model_never_takes_the_checkpoint_s_place(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its adapter is merged, its weights are rounded; and no update is saved twice."""
    written: list[int] = []

    def watched(folder: Path, step: int, *rest: Any) -> Path:
        written.append(step)
        return save_checkpoint(folder, step, *rest)

    monkeypatch.setattr("groupwise.stages.parts.save_checkpoint", watched)
    sections = {"steps": 2, "lora": {"rank": 2}, "eval": {"prompts": 2}, "checkpoint": {"every": 1}}
    trainer = train_inside(tmp_path / "run", tiny, digits, **sections)
    trainer.train()
    trainer.train()
    saved = torch.load(tmp_path / "run" / "checkpoints" / "step-000002.pt", weights_only=True)
    assert any("lora" in name for name in saved["learner"]["model"])
    assert written == [0, 1, 2]


def test_who_stops_after_the_checkpoint_has_stopped_for_good(tiny: Path, tmp_path: Path) -> None:
    trainer = train_inside(tmp_path / "run", tiny, digits)
    trainer.checkpoint()
    trainer.stop()
    trainer.checkpoint()
    again = train_inside(tmp_path / "run", tiny, digits)
    again.restore()
    assert again.stopped


@pytest.mark.parametrize("failing", ["evaluation", "callback"])
def test_an_error_after_an_update_costs_no_update(tiny: Path, tmp_path: Path, failing: str) -> None:
    sections = {"steps": 4, "eval": {"prompts": 2, "every": 2}, "checkpoint": {"every": 0}}
    trainer = train_inside(tmp_path / "run", tiny, digits, **sections)

    def broken(rollouts: Any) -> None:
        raise ConnectionError("no judge")

    def update_3(trainer: Trainer, row: Any) -> None:
        if failing == "callback" and trainer.steps_done == 3:
            raise ConnectionError("no judge")
        if failing == "evaluation" and trainer.steps_done == 1:
            trainer.judge.score = broken  # type: ignore[method-assign]

    trainer.callbacks.append(update_3)
    with pytest.raises(ConnectionError, match="no judge"):
        trainer.train()
    done = 3 if failing == "callback" else 2
    assert trainer.steps_done == done
    written = read_metrics(tmp_path / "run" / "metrics.jsonl")
    assert [row["step"] for row in written] == list(range(1, done + 1))
    assert ("eval/pass@1" in written[1]) == (failing == "callback")
    again = train_inside(tmp_path / "run", tiny, digits, **sections)
    again.restore()
    assert again.steps_done == done
