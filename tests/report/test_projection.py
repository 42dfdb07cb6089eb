from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from groupwise.report.projection import principal_axes, recent_prompts
from groupwise.run import rollouts as run
from groupwise.types import Completion, Prompt, Rollout

from .fake_run import make_rollout, write_rollouts


def files(folder: Path) -> list[Path]:
    return sorted((folder / "rollouts").glob("step-*.parquet"))


def asked(step: int, prompt: str, vector: list[float] | None, **more: Any) -> dict[str, Any]:
    embedding = None if vector is None else np.array(vector, np.float16)
    return make_rollout(step=step, prompt_id=prompt, path=[0, 1], embedding=embedding, **more)


def test_axes_are_those_of_most_variance() -> None:
    rng = np.random.default_rng(0)
    turn, _ = np.linalg.qr(rng.normal(size=(5, 5)))
    flat = np.stack([rng.normal(0, 3, 200), rng.normal(0, 1, 200)], axis=1)
    positions, share = principal_axes(np.pad(flat, ((0, 0), (0, 3))) @ turn + 7.0)
    centred = flat - flat.mean(axis=0)
    gaps = np.linalg.norm(centred[:, None] - centred, axis=-1)
    np.testing.assert_allclose(np.linalg.norm(positions[:, None] - positions, axis=-1), gaps, atol=1e-9)
    assert positions[:, 0].std() > positions[:, 1].std()
    assert share == pytest.approx(1.0)


def test_the_map_turns_no_somersault() -> None:
    rng = np.random.default_rng(1)
    vectors = rng.normal(size=(40, 6)) * [4, 2, 1, 0.5, 0.5, 0.5]
    positions, share = principal_axes(vectors)
    order = rng.permutation(40)
    np.testing.assert_allclose(principal_axes(vectors[order])[0], positions[order], atol=1e-9)
    np.testing.assert_allclose(principal_axes(vectors @ np.diag([-1, 1, 1, -1, 1, 1]))[0], positions, atol=1e-9)
    assert (positions[np.abs(positions).argmax(axis=0), [0, 1]] > 0).all()
    assert 0.5 < share < 1


def test_what_has_no_second_axis_lies_on_a_line() -> None:
    positions, share = principal_axes([[0.0, 0.0], [1.0, 2.0], [2.0, 4.0]])
    np.testing.assert_allclose(positions[:, 1], 0.0, atol=1e-12)
    assert share == pytest.approx(1.0)
    assert principal_axes(np.ones((4, 3)))[1] == 0.0
    assert principal_axes([[1.0], [2.0]])[0].shape == (2, 2)


def test_a_prompt_is_taken_as_it_was_last_asked_and_the_latest_come_first(tmp_path: Path) -> None:
    write_rollouts(tmp_path, 1, [asked(1, "a", [1, 0], reward=0.0), asked(1, "b", [0, 1])])
    write_rollouts(
        tmp_path,
        2,
        [
            asked(2, "a", [1, 0], reward=None, dropped="gone") | {"path": []},
            asked(2, "a", None, reward=1.0),
            asked(2, "a", None, reward=0.5),
        ],
    )
    first, second = recent_prompts(files(tmp_path))
    assert (first.step, first.rewards, first.path) == (2, (1.0, 0.5), (0, 1))
    np.testing.assert_array_equal(first.embedding, [1.0, 0.0])
    assert (second.step, second.rewards) == (1, (1.0,))
    assert [prompt.step for prompt in recent_prompts(files(tmp_path), most=1)] == [2]


def test_files_without_embeddings_end_the_search_and_broken_ones_do_not(tmp_path: Path) -> None:
    assert recent_prompts([]) == []
    write_rollouts(tmp_path, 1, [asked(1, "a", [1, 0])])
    write_rollouts(tmp_path, 2, [make_rollout()])
    write_rollouts(tmp_path, 3, [asked(3, "c", [1, 0]), asked(3, "d", [float("nan"), 0])])
    write_rollouts(tmp_path, 4, [asked(4, "e", [1, 0])])
    files(tmp_path)[3].write_bytes(b"half a file")
    assert [prompt.step for prompt in recent_prompts(files(tmp_path))] == [3]
    write_rollouts(tmp_path, 3, [asked(3, "c", None)])
    assert recent_prompts(files(tmp_path)) == []


def test_what_a_run_writes_is_read(tmp_path: Path) -> None:
    said = Completion(token_ids=(1,), logprobs=(0.0,), text="", finish_reason="stop", policy_version=0)
    prompt = Prompt(id="p", task="gcd", domain="d", text="?", embedding=np.array([0.5, 2.0], np.float32))
    both = [Rollout(prompt=prompt, completion=said, reward=float(i), path=(0, 4)) for i in (0, 1)]
    run.write_rollouts(tmp_path / "rollouts", 1, both)
    [found] = recent_prompts(files(tmp_path))
    assert (found.task, found.rewards, found.path) == ("gcd", (0.0, 1.0), (0, 4))
    np.testing.assert_array_equal(found.embedding, [0.5, 2.0])
