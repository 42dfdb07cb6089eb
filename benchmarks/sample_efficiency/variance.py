"""`variance`: pools of rollouts at the start, middle and end of a demo-like training; estimators resampled on them."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Any

import numpy as np

from sample_efficiency.places import DEMO, RESULTS, RUNS, write_json

WHEN = ("start", "middle", "end")


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--prompts", type=int, default=96, help="in the pool; equally many of each task")
    parser.add_argument("--samples", type=int, default=32, help="completions of each")
    parser.add_argument("--width", type=int, default=384, help="of the projected gradients")
    parser.add_argument("--rollouts", type=int, default=96, help="of a resampled update")
    parser.add_argument("--group-sizes", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--times", type=int, default=400, help="updates resampled")
    parser.add_argument("--steps", type=int, default=None, help="of the training; default: the demo's")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--name", default="variance", help="of the result and of what lies in runs/")


def run(arguments: Namespace) -> None:
    from groupwise.config import Recipe
    from groupwise.recipes import load_recipe
    from groupwise.stages.record import machine

    folder = RUNS / arguments.name
    words = [f"--seed={arguments.seed}", f"--threads={arguments.threads}", f"--run.dir={folder / 'run'}"]
    words += [f"--steps={arguments.steps}"] if arguments.steps else []
    recipe = load_recipe(Recipe, DEMO, [*words, "--checkpoint.every=5", "--run.rollouts=false", "--eval.prompts=0"])
    shape = f"{arguments.prompts}-{arguments.samples}-{arguments.width}"
    pools = {when: RESULTS / "pools" / f"{arguments.name}-{when}-{shape}.npz" for when in WHEN}
    models = train(recipe, folder) if not all(path.exists() for path in pools.values()) else {}
    settings = {key: getattr(arguments, key) for key in ("prompts", "samples", "width", "rollouts", "times", "seed")}
    result: dict[str, Any] = {"machine": machine(), "settings": settings | {"steps": recipe.steps}, "policies": {}}
    for when, path in pools.items():
        if not path.exists():
            print(f"{when}: {arguments.prompts} x {arguments.samples} rollouts and their gradients", flush=True)
            make(recipe, models[when], path, arguments)
        result["policies"][when] = measure(path, arguments)
        table(when, result["policies"][when])
        write_json(RESULTS / f"{arguments.name}.json", result)


def train(recipe: Any, folder: Path) -> dict[str, str]:
    """The policy at start, middle and end of the run, as model names; continues a run that was stopped."""
    from groupwise.learner.policy import save_policy
    from groupwise.run.folder import MODEL, SUMMARY
    from groupwise.stages.grpo import Trainer

    run_dir, middle = Path(recipe.run.dir), folder / "middle"

    def keep_middle(trainer: Any, _: Any) -> None:
        if trainer.steps_done >= trainer.recipe.steps // 2 and not middle.exists():
            save_policy(trainer.policy, middle)

    if not (run_dir / SUMMARY).exists():
        with Trainer(recipe, callbacks=[keep_middle], run_dir=run_dir, resume=True) as trainer:
            trainer.train()
    return dict(zip(WHEN, (recipe.model, str(middle), str(run_dir / MODEL)), strict=True))


def make(recipe: Any, model: str, path: Path, arguments: Namespace) -> None:
    from sample_efficiency.gradients import make_pool

    make_pool(
        recipe,
        model,
        path,
        prompts=arguments.prompts,
        samples=arguments.samples,
        width=arguments.width,
        seed=7_000_000 + arguments.seed,  # of a stream that no training draws from
    )


def measure(path: Path, arguments: Namespace) -> dict[str, Any]:
    from sample_efficiency.resampling import Pool, resample
    from sample_efficiency.spread import components, rows

    saved = np.load(path)
    normaliser = float(saved["lengths"].mean())  # tokens a rollout, the same for every estimator
    pool = Pool(
        rewards=saved["rewards"],
        gradients=(saved["gradients"] / normaliser).astype(np.float32),
        families=saved["families"],
        groups=saved["groups"],
    )
    found = {
        group: resample(pool, arguments.rollouts, group, arguments.times, arguments.seed)
        for group in arguments.group_sizes
    }
    between, within = components(pool.rewards)
    return {
        "pass@1": float(pool.rewards.mean()),
        "between": between,
        "within": within,
        "rho": between / (between + within),
        "groups": [len(np.unique(column)) for column in pool.groups.T],
        "rows": rows(pool, found, arguments.rollouts),
    }


def table(when: str, found: dict[str, Any]) -> None:
    print(f"\n{when}: pass@1 {found['pass@1']:.3f}, rho {found['rho']:.2f}, domains and clusters {found['groups']}")
    print(f"{'estimator':22} {'G':>2} {'trace':>7} {'+-':>6} {'unbiased':>8} {'E A2/s_w':>8} {'theory':>6}   bias (z)")
    for row in found["rows"]:
        bias, theory = row["bias"], row["theory"]
        print(
            f"{row['estimator']:22} {row['group_size']:2} {row['trace']:7.3f} {row['trace_error']:6.3f} "
            f"{row['trace_unbiased']:8.3f} {row['advantage_square_over_within']:8.3f} "
            f"{'' if theory is None else format(theory, '6.3f'):>6}   {bias['along']:+.1%} ({bias['along_z']:+.1f}), "
            f"rms z {bias['rms_z']:.2f}"
        )
