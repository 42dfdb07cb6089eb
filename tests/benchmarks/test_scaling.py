"""The curves of cost: what is counted, and that missing points are the ones that are made."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from compare_trl.material import CONTEXT
from compare_trl.works import Work
from scaling import measure
from scaling.axes import AXES, forward_operations, operations
from scaling.point import Phase
from scaling.report import as_text, draw, floor


@pytest.mark.parametrize("axis", AXES)
def test_an_axis_varies_one_number_of_size_1_and_passes_through_it(axis: str) -> None:
    values = AXES[axis].values
    assert len(values) == 5 and sorted(values) == list(values)
    assert Work() in [AXES[axis].work(value) for value in values]
    for value in values:
        work = AXES[axis].work(value)
        assert work.prompt_tokens + work.completion_tokens <= CONTEXT
        assert replace(work, **{AXES[axis].key: getattr(Work(), AXES[axis].key)}) == Work()


@pytest.mark.parametrize("axis", AXES)
def test_more_work_takes_more_operations(axis: str) -> None:
    counts = [sum(operations(AXES[axis].work(value)).values()) for value in AXES[axis].values]
    assert counts == sorted(counts) and len(set(counts)) == len(counts)


def test_prompts_count_once_and_completions_once_each() -> None:
    one, two = Work(group=1), Work(group=2)
    assert forward_operations(one)[0] == forward_operations(two)[0]
    assert 2 * forward_operations(one)[1] == forward_operations(two)[1]


def test_without_attention_and_head_a_token_costs_two_operations_a_weight() -> None:
    """An oracle: the parameters of the layers' matrices, counted by torch."""
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    work = Work()
    config = Qwen2Config(
        vocab_size=work.vocabulary,
        hidden_size=work.hidden,
        num_hidden_layers=work.layers,
        num_attention_heads=work.heads,
        num_key_value_heads=work.kv_heads,
        intermediate_size=work.intermediate,
    )
    with torch.device("meta"):
        model = Qwen2ForCausalLM(config)
    weights = sum(p.numel() for p in model.model.layers.parameters() if p.ndim == 2)
    prompts, _ = forward_operations(replace(work, prompts=1, prompt_tokens=1))
    assert prompts - 4 * work.layers * work.hidden == 2 * weights


def test_an_update_is_a_forward_and_a_backward_of_twice_its_size() -> None:
    found = operations(Work())
    assert found["update"] == 3 * found["generate"]


def test_a_phase_is_watched_and_changes_nothing() -> None:
    phase = Phase(lambda size, *, more: bytearray(b"x") * (size + more))
    assert len(phase(3, more=4)) == 7
    phase(64 * 2**20, more=0)
    assert len(phase.seconds) == len(phase.mib) == 2 and min(phase.seconds) > 0
    with pytest.raises(ZeroDivisionError):
        Phase(lambda: 1 / 0)()


def point(axis: str, value: int, steps: int = 5, foreign: float = 0.0) -> dict[str, Any]:
    found = {"axis": axis, "value": value, "steps": steps, "gflops": 100.0, "foreign": foreign}
    found |= {"generate_seconds": 1.0, "generate_mib": 10.0, "update_seconds": 2.0, "update_mib": 20.0}
    machine = {"cpu": "a CPU", "cores": "2", "gpu": "none", "torch": "2.13"}
    return found | {"operations": {"generate": 50e9, "update": 150e9}, "machine": machine}


def test_points_that_are_there_are_not_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[tuple[str, int, int]] = []

    def pretend(axis: str, value: int, steps: int) -> dict[str, Any]:
        made.append((axis, value, steps))
        return point(axis, value, steps)

    monkeypatch.setattr(measure, "RESULTS", tmp_path)
    monkeypatch.setattr(measure, "measure", pretend)
    measure.measure_missing(["layers"], 1, 2)
    measure.measure_missing(["layers"], 1, 2)
    assert made == [("layers", 2, 1), ("layers", 4, 1)]
    measure.measure_missing(["layers"], 5, 3)
    assert made[2:] == [("layers", 2, 5), ("layers", 4, 5), ("layers", 8, 5)], "a quick point is no point"
    assert [found["value"] for found in measure.results("layers")] == [2, 4, 8]


def test_the_floor_is_operations_by_their_rate() -> None:
    assert floor(point("layers", 2), "generate") == 0.5
    assert floor(point("layers", 2), "update") == 1.5


def test_the_text_has_a_picture_and_a_table_of_each_axis() -> None:
    text = as_text({"layers": [point("layers", 2), point("layers", 4)], "prompt": [point("prompt", 24)]})
    assert "images/scaling-layers.png" in text and "images/scaling-prompt.png" in text
    assert "| 2 | 1.00 | 0.50 | 10 | 2.00 | 1.50 | 20 | 0% |" in text
    assert "### Layers" in text and text.count("a CPU") == 1
    assert "say little" not in text
    assert "say little" in as_text({"layers": [point("layers", 2, foreign=0.3)]})


def test_a_picture_is_drawn(tmp_path: Path) -> None:
    draw("layers", [point("layers", 2), point("layers", 4)], tmp_path / "images" / "layers.png")
    assert (tmp_path / "images" / "layers.png").read_bytes().startswith(b"\x89PNG")
