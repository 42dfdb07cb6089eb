"""A run folder as `groupwise train` leaves it, made without training: tasks of unlike difficulty that are learned."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from groupwise.config import Recipe

from . import fake_groups
from .families import FAMILIES, Family

Z = 1.96


def make_run(
    folder: Path,
    *,
    steps: int = 60,
    asked: int | None = None,
    families: Sequence[Family] = FAMILIES,
    prompts_a_step: int = 16,
    group_size: int = 8,
    eval_every: int = 0,
    finished: bool = True,
    rollouts: bool = True,
    groups: str | None = "clusters",
    seed: int = 0,
) -> Path:
    """Write the folder; `asked` is the number of updates in the recipe, `groups` its `grouping.kind`.

    Without groups it is a run from before there were any.
    """
    rng = np.random.default_rng(seed)
    recipe = Recipe.model_validate(
        {
            "steps": asked or max(1, steps),
            "tasks": [{"name": f.name} for f in families],
            "rewards": [{"name": "accuracy"}, {"name": "format", "function": "rewards:form", "weight": 0.1}],
            "rollout": {"group_size": group_size, "batch_size": group_size * prompts_a_step, "max_tokens": 96},
            "update": {"learning_rate": 2e-4, "warmup": 5},
            "grouping": {"kind": groups or "domain"},
        }
    )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False))
    rows: list[dict[str, Any]] = []
    updates = []
    for step in range(1, steps + 1):
        drawn = _rollouts(rng, step, steps, families, prompts_a_step, group_size)
        rows.append(_row(rng, step, steps, drawn, rows, eval_every, families))
        if groups:
            fake_groups.place(np.random.default_rng([seed, step]), groups, families, drawn)
            rows[-1] |= fake_groups.metrics(np.random.default_rng([seed, step]), groups, step)
        updates.append(drawn)
        if rollouts:
            write_rollouts(folder, step, drawn)
    if groups and steps:
        fake_groups.write_groups(folder, groups, updates)
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    if finished:
        (folder / "summary.json").write_text(json.dumps(make_summary(families, rows), indent=2))
    return folder


def write_rollouts(folder: Path, step: int, rows: Sequence[dict[str, Any]]) -> None:
    (folder / "rollouts").mkdir(exist_ok=True)
    types = {"answer": pa.string(), "reward": pa.float64(), "dropped": pa.string()}
    types |= {"path": pa.list_(pa.int64()), "embedding": pa.list_(pa.float16())}
    columns = {key: pa.array([row[key] for row in rows], type=types.get(key)) for key in rows[0]}
    pq.write_table(pa.table(columns), folder / "rollouts" / f"step-{step:06d}.parquet")


def make_rollout(**values: Any) -> dict[str, Any]:
    """One row of a rollouts file; name what matters."""
    rewards = values.pop("rewards", {"accuracy": 1.0})
    row: dict[str, Any] = {
        "step": 1, "rollout": 0, "group": 0, "prompt_id": "p0", "task": "chain_sum", "domain": "arithmetic",
        "prompt": "1 + 1 =", "completion": "<answer>2</answer>", "answer": "2", "reward": 1.0,
        "rewards": json.dumps(rewards), "advantage": 0.0, "finish_reason": "stop", "length": 9, "prompt_length": 8,
        "policy_version": 0, "logprob_mean": -0.2, "dropped": None, "difficulty": '{"num_terms": [2, 4]}',
    }  # fmt: skip
    return row | values


def _skill(family: Family, progress: float) -> float:
    return family.before + (family.after - family.before) * (1 - np.exp(-3 * progress)) / (1 - np.exp(-3))


def _rollouts(
    rng: np.random.Generator, step: int, steps: int, families: Sequence[Family], prompts: int, size: int
) -> list[dict[str, Any]]:
    out = []
    for group in range(prompts):
        family = families[int(rng.integers(len(families)))]
        question, answer, work = family.ask(rng)
        skill = np.clip(_skill(family, step / steps) + rng.normal(0, 0.15), 0, 1)
        members = [_member(rng, answer, work, skill, step / steps) for _ in range(size)]
        scored = [m["reward"] for m in members if m["dropped"] is None]
        for member in members:
            others = sum(scored) - member["reward"] if member["dropped"] is None else 0.0
            alone = member["dropped"] is not None or len(scored) < 2
            member["advantage"] = 0.0 if alone else member["reward"] - others / (len(scored) - 1)
            member["reward"] = None if member["dropped"] else member["reward"]
            shared = {"step": step, "rollout": len(out), "group": -1 if member["dropped"] else group}
            asked = {"prompt_id": f"{step:04d}-{group:02d}", "task": family.name, "domain": family.domain}
            out.append(
                make_rollout(**shared, **asked, prompt=question, answer=answer, policy_version=step - 1, **member)
            )
    return out


def _member(rng: np.random.Generator, answer: str, work: list[str], skill: float, progress: float) -> dict[str, Any]:
    right, thinks, cut = rng.random() < skill, rng.random() < 0.35 + 0.6 * progress, rng.random() < 0.03
    said = answer if right else str(rng.integers(2, 999)) if answer.lstrip("-").isdigit() else answer[1:] + answer[:1]
    text = ("<think>\n" + "\n".join(work) + "\n</think>\n" if thinks else "") + f"<answer>{said}</answer>"
    if cut:
        text, right = "<think>\n" + "\n".join(work) + "\n" + work[-1][: len(work[-1]) // 2], False
    length = min(96, len(text) // 2 + 3)
    dropped = "accuracy: TimeoutError after 5.0 s" if rng.random() < 0.002 else None
    rewards = {} if dropped else {"accuracy": float(right), "format": float(thinks and not cut)}
    return {
        "completion": text,
        "rewards": rewards,
        "reward": rewards.get("accuracy", 0.0) + 0.1 * rewards.get("format", 0.0),
        "finish_reason": "length" if cut else "stop",
        "length": 96 if cut else length,
        "logprob_mean": float(-0.6 * (1 - 0.8 * progress) * rng.random()),
        "dropped": dropped,
    }


def _row(
    rng: np.random.Generator,
    step: int,
    steps: int,
    drawn: Sequence[dict[str, Any]],
    earlier: Sequence[dict[str, Any]],
    eval_every: int,
    families: Sequence[Family],
) -> dict[str, Any]:
    """The metrics of one update, as docs/metrics.md names them."""
    progress = step / steps
    scored = [r for r in drawn if r["dropped"] is None]
    rewards = np.array([r["reward"] for r in scored])
    lengths = np.array([r["length"] for r in drawn])
    named = [json.loads(r["rewards"]) for r in scored]
    seconds = {
        "draw": 0.004, "generate": 0.5 + 0.004 * lengths.mean() + 0.05 * rng.random(), "score": 0.06,
        "group": 0.001, "estimate": 0.001, "update": 0.7 + 0.05 * rng.random(), "record": 0.02,
    }  # fmt: skip
    total = sum(seconds.values())
    before = earlier[-1] if earlier else {"rollouts/total": 0, "tokens/total": 0}
    groups: dict[str, set[float]] = {}
    for r in scored:
        groups.setdefault(r["prompt_id"], set()).add(r["reward"])
    row = {
        "step": step,
        "loss": float(rng.normal(0, 0.01)),
        "reward/mean": float(rewards.mean()),
        "reward/std": float(rewards.std()),
        "reward/accuracy/mean": float(np.mean([n["accuracy"] for n in named])),
        "reward/format/mean": float(np.mean([n["format"] for n in named])),
        "accuracy": float(np.mean([n["accuracy"] for n in named])),
        "advantage/mean": float(rng.normal(0, 1e-9)),
        "advantage/std": float(np.std([r["advantage"] for r in scored])),
        "groups/count": len(groups),
        "groups/size_mean": len(scored) / len(groups),
        "groups/zero_variance": float(np.mean([len(s) == 1 for s in groups.values()])),
        "rollouts/total": before["rollouts/total"] + len(drawn),
        "rollouts/dropped": len(drawn) - len(scored),
        "rollouts/discarded": 0,
        "rollouts/truncated": float(np.mean([r["finish_reason"] == "length" for r in drawn])),
        "rollouts/rounds": 1,
        "completion/length_mean": float(lengths.mean()),
        "completion/length_max": int(lengths.max()),
        "tokens/total": int(before["tokens/total"] + lengths.sum()),
        "tokens/per_second": float(lengths.sum() / total),
        "policy/entropy": float(0.75 * np.exp(-1.1 * progress) + rng.normal(0, 0.015)),
        "policy/mismatch": float(abs(rng.normal(4e-4, 5e-5))),
        "policy/clip_fraction": float(abs(rng.normal(0.004, 0.002))),
        "policy/ratio_max": float(1 + abs(rng.normal(0.2, 0.15))),
        "policy/grad_norm": float(rng.lognormal(-0.6, 0.35)),
        "policy/learning_rate": 2e-4 * min(1.0, step / 5),
        "memory/peak_mib": 900 + 60 * (1 - np.exp(-8 * progress)),
        "time/total": total,
        **{f"time/{name}": value for name, value in seconds.items()},
    }
    for task in sorted({r["task"] for r in scored}):
        row[f"tasks/{task}/reward"] = float(np.mean([r["reward"] for r in scored if r["task"] == task]))
    if eval_every and step % eval_every == 0:
        rates = {f.name: float(np.clip(_skill(f, progress) + rng.normal(0, 0.015), 0, 1)) for f in families}
        row["eval/pass@1"] = float(np.mean(list(rates.values())))
        row |= {f"eval/{name}/pass@1": rate for name, rate in rates.items()}
    return row


def make_summary(families: Sequence[Family], rows: Sequence[dict[str, Any]], prompts: int = 300) -> dict[str, Any]:
    def half(rate: float, scale: float = 1.0) -> float:
        return Z * float(np.sqrt(scale * rate * (1 - rate) / prompts))

    def evaluation(attribute: str) -> dict[str, Any]:
        rates = {f.name: getattr(f, attribute) for f in families}
        mean = float(np.mean(list(rates.values())))
        return {
            "pass@1": mean,
            "pass@1_interval": [mean - half(mean) / len(families) ** 0.5, mean + half(mean) / len(families) ** 0.5],
            "by_task": rates,
            "by_task_interval": {name: [max(0, r - half(r)), min(1, r + half(r))] for name, r in rates.items()},
            "domains": {f.name: f.domain for f in families},
            "prompts": prompts * len(families),
            "samples": 1,
            "seed": 990,
            "temperature": 1.0,
            "length_mean": 31.4 if attribute == "before" else 46.1,
            "truncated": 0.041 if attribute == "before" else 0.022,
        }

    gains = {f.name: f.after - f.before for f in families}
    mean = float(np.mean(list(gains.values())))
    return {
        "model": "seedling",
        "steps": len(rows),
        "before": evaluation("before"),
        "after": evaluation("after"),
        "gain": {
            "pass@1": mean,
            "interval": [mean - 0.013, mean + 0.013],
            "by_task": gains,
            "by_task_interval": {name: [gain - half(0.5, 0.9), gain + half(0.5, 0.9)] for name, gain in gains.items()},
        },
        "rollouts": rows[-1]["rollouts/total"],
        "tokens": rows[-1]["tokens/total"],
        "train_seconds": sum(row["time/total"] for row in rows),
        "generate_seconds": sum(row["time/generate"] for row in rows),
        "update_seconds": sum(row["time/update"] for row in rows),
        "dropped_rollouts": sum(row["rollouts/dropped"] for row in rows),
        "discarded_rollouts": 0,
        "peak_memory_mib": 961.3,
        "machine": {"cpu": "AMD EPYC 9B14", "cores": "2", "gpu": "none", "python": "3.11.2", "torch": "2.13.0+cpu"},
    }
