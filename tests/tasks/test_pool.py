"""Functions given from Python: in a worker where it can find them, else in a thread of this process."""

import os
import sys
import threading
from typing import Any

import pytest

from groupwise.config import RewardConfig
from groupwise.tasks.scoring import Scorer
from groupwise.types import Prompt, UserError

from .cases import reward, scored, wait_until

pytestmark = pytest.mark.usefixtures("bad_rewards_on_path")


def test_one_that_has_an_importable_name_runs_in_a_worker() -> None:
    from bad_rewards import Judge, does

    with Scorer([], [reward(deadline=0.5)], functions={"r": does, "judge": Judge.score}) as scorer:
        batch = scored(scorer, ["pid", "exit"])
    assert batch[0].rewards["r"] != os.getpid()
    assert batch[0].rewards["judge"] == 0.5  # without a RewardConfig: the default one
    assert batch[1].dropped == "r: died (exit code 3)"


def test_a_closure_runs_here_in_the_order_of_the_rollouts() -> None:
    seen: list[str] = []

    def closure(prompt: Prompt, completion: str) -> float | None:
        seen.append(completion)
        return None if completion == "none" else os.getpid()

    texts = ["b", "a", "none", "c"]
    with Scorer([], [], functions={"here": closure}) as scorer:
        batch = scored(scorer, texts)
    assert seen == texts
    assert [r.reward == os.getpid() for r in batch] == [True, True, False, True]
    assert batch[2].dropped == "unscored"


@pytest.mark.parametrize("does", ["spin", "sleep", "raise", "nan", "string"])
def test_failures_here_cost_their_own_rollout_too(does: str) -> None:
    release = threading.Event()

    def closure(prompt: Prompt, completion: str) -> Any:
        match completion:
            case "spin":
                while True:
                    pass
            case "sleep":
                release.wait()
            case "raise":
                raise KeyError(1)
            case "nan":
                return float("nan")
            case "string":
                return "1"
        return 2.0

    config = [RewardConfig(name="here", function="any", deadline=0.2), reward("one")]
    with Scorer([], config, functions={"here": closure}) as scorer:
        batch = scored(scorer, ["a", does, "b"])
    assert [r.dropped is None for r in batch] == [True, False, True]
    assert batch[0].rewards == {"here": 2.0, "r": 1.0}
    release.set()
    wait_until(lambda: not [t for t in threading.enumerate() if t.name == "groupwise-reward"])


def test_a_module_that_only_this_process_knows_runs_here(monkeypatch: pytest.MonkeyPatch) -> None:
    module = type(sys)("only_here")
    exec("def f(prompt, completion): return 4", vars(module))
    monkeypatch.setitem(sys.modules, "only_here", module)
    with Scorer([], [reward("one")], functions={"here": module.f}) as scorer:
        assert scored(scorer, ["a"])[0].rewards == {"here": 4.0, "r": 1.0}


def test_wrong_arguments_are_refused_at_once() -> None:
    with pytest.raises(UserError, match="reward 'here' cannot be called as function"):
        Scorer([], [], functions={"here": lambda prompt: 1.0})
