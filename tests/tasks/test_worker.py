"""Loading rewards: what cannot be loaded is named at the start, and loading is never charged to a call."""

from pathlib import Path

import pytest

from groupwise.config import RewardConfig, TaskConfig
from groupwise.tasks import pool
from groupwise.tasks.scoring import Scorer
from groupwise.types import UserError

from .cases import reward, rollouts, scored

pytestmark = pytest.mark.usefixtures("bad_rewards_on_path")


def test_the_tasks_own_scorer() -> None:
    texts = ["<answer>2</answer>", "<answer>3</answer>", "2"]
    with Scorer([TaskConfig(name="sums", family="chain_sum")], [reward("task", "accuracy")]) as scorer:
        right, wrong, bare = scored(scorer, texts, task="sums", answer="2")
        (lost,) = scored(scorer, ["2"], task="other")
    assert right.rewards == {"accuracy": 1.0}
    assert wrong.reward < 0.1 and bare.reward == 0.0
    assert lost.dropped == "accuracy: raised KeyError: 'other'"


def test_workers_of_a_task_import_no_torch() -> None:
    rewards = [reward("task", "accuracy"), reward("does")]
    with Scorer([TaskConfig(name="chain_sum")], rewards) as scorer:
        assert scored(scorer, ["modules"])[0].rewards["r"] == 0.0


def test_unknown_family() -> None:
    with Scorer([TaskConfig(name="chain_sun")], [reward("task")]) as scorer, pytest.raises(UserError) as error:
        scorer.ready()
    assert "chain_sum" in str(error.value)


def test_no_tasks() -> None:
    with pytest.raises(UserError, match="reward 'r' is the task's own scorer, but there are no tasks"):
        Scorer([], [reward("task")])


@pytest.mark.parametrize(
    ("function", "words"),
    [
        ("bad_rewards:lenght", "reward 'r': bad_rewards has no function 'lenght'; nearest names: length"),
        ("bad_rewards:zzz", "bad_rewards has no function 'zzz'; nearest names: length, one, does"),
        ("bad_rewards:Judge.scores", "has no function 'Judge.scores'; nearest names: score"),
        ("bad_reward:length", "there is no module 'bad_reward'; nearest names: bad_rewards"),
        ("zzqqx:length", "there is no module 'zzqqx'; looked in "),
        ("bad_rewards:wrong_arguments", "cannot be called as function(prompt, completion): too many positional"),
        ("bad_rewards:not_a_function", "bad_rewards:not_a_function is not a function but a int"),
    ],
)
def test_a_reward_that_is_not_there_is_named(function: str, words: str) -> None:
    config = RewardConfig(name="r", function=function)
    with Scorer([], [config]) as scorer, pytest.raises(UserError) as error:
        scorer.ready()
    assert words in str(error.value)


@pytest.mark.parametrize("function", ["lenght", "module:", ":function", ""])
def test_a_reward_that_names_no_module(function: str) -> None:
    with pytest.raises(UserError, match="is not task, math, exact, regex, format, language, length or module:function"):
        Scorer([], [RewardConfig(name="r", function=function)])


def test_names_must_differ_and_exist() -> None:
    with pytest.raises(UserError, match="rewards: two are named 'r'"):
        Scorer([], [reward(), reward()])
    with pytest.raises(UserError, match="rewards: there is none"):
        Scorer([], [])


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("import nowhere_at_all", "new_reward:f cannot be imported: ModuleNotFoundError: No module named 'nowhere"),
        ("1 / 0", "new_reward:f cannot be imported: ZeroDivisionError: division by zero"),
        ("raise SystemExit(1)", "new_reward:f cannot be imported: SystemExit: 1"),
        ("import os; os._exit(9)", r"a reward worker did not start: died (exit code 9) while loading reward 'r'"),
        ("while True: pass", r"a reward worker did not start: timeout after 5 s while loading reward 'r'"),
    ],
)
def test_a_module_that_cannot_be_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, words: str
) -> None:
    (tmp_path / "new_reward.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(pool, "START_DEADLINE", 5.0)  # a busy machine loads its libraries in seconds
    config = RewardConfig(name="r", function="new_reward:f")
    with Scorer([], [config]) as scorer, pytest.raises(UserError) as error:
        scorer.score(rollouts(["a"]))
    assert words in str(error.value)


def test_a_slow_import_is_not_charged_to_a_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "slow_reward.py").write_text("import time; time.sleep(1)\nfrom bad_rewards import does")
    monkeypatch.syspath_prepend(tmp_path)
    with Scorer([], [RewardConfig(name="r", function="slow_reward:does", deadline=0.5)]) as scorer:
        assert [r.dropped is None for r in scored(scorer, ["a", "exit", "spin", "b", "c"])] == [1, 0, 0, 1, 1]


def test_a_module_in_the_working_folder_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here.py").write_text("def f(prompt, completion): return 3")
    monkeypatch.chdir(tmp_path)
    with Scorer([], [RewardConfig(name="r", function="here:f")]) as scorer:
        assert scored(scorer, ["a"])[0].reward == 3.0


def test_workers_that_no_longer_load_end_the_call_but_not_the_scorer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flag = tmp_path / "flag"
    source = f"import os\nif os.path.exists({str(flag)!r}): raise OSError('disk')\nfrom bad_rewards import does"
    (tmp_path / "flaky_reward.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    with Scorer([], [RewardConfig(name="r", function="flaky_reward:does")], workers=1) as scorer:
        assert scored(scorer, ["a"])[0].reward == 1.0
        flag.touch()
        first, *rest = scored(scorer, ["exit", "a", "b"])
        assert first.dropped == "r: died (exit code 3)"
        assert all("no worker could start: flaky_reward:does cannot be" in str(r.dropped) for r in rest)
        flag.unlink()
        assert scored(scorer, ["a"])[0].reward == 1.0
