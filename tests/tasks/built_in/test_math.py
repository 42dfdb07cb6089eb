"""Equal or not, in whatever form it was said."""

import builtins
import importlib
import time
from types import ModuleType

import pytest

from groupwise.tasks.built_in.math import load_library, math
from groupwise.types import UserError

from .cases import prompt

pytest.importorskip("math_verify")


@pytest.mark.parametrize(
    ("answer", "completion"),
    [
        ("5", r"\boxed{5}"),
        ("5", r"\boxed{x=5}"),
        ("5", "<answer> x = 5 </answer>"),
        ("5", "so the answer is 5."),
        ("12", r"\[ 3 \cdot 4 = 12 \]"),
        ("72", "<answer>72 clips</answer>"),
        ("72", "<answer>$72</answer>"),
        ("1000", r"\boxed{1,000}"),
        ("1/3", r"\boxed{\frac13}"),
        (r"\frac{1}{2}", "0.5"),
        (r"$\frac{1}{2}$", r"\boxed{\frac{2}{4}}"),
        (r"So it is \boxed{4}.", "4"),
        ("50%", r"\boxed{50\%}"),
        ("(1, 2)", "<answer>(1,2)</answer>"),
        (r"\{1, 2\}", r"\boxed{\{2, 1\}}"),
        (r"2\sqrt{3}", r"\boxed{\sqrt{12}}"),
        ("(x+1)^2", r"\boxed{x^2+2x+1}"),
        ("4", r"\boxed{3} no, \boxed{4} and \boxed{5"),
        ("4", r"<answer>hence \boxed{4}</answer> \boxed{5}"),
        ("Paris", r"\boxed{\text{paris}}"),
        ("Paris", "Paris"),
        ("A", r"\boxed{A}"),
    ],
)
def test_right(answer: str, completion: str) -> None:
    assert math(prompt(answer), completion) == 1.0


@pytest.mark.parametrize(
    ("answer", "completion"),
    [
        ("5", ""),
        ("5", "I do not know"),
        ("5", r"\boxed{6}"),
        ("5", r"\boxed{-5}"),
        ("3", r"\boxed{3} or \boxed{4}"),
        ("3", r"\boxed{3, 4}"),
        ("3", r"\boxed{3 \text{ or } 4}"),
        ("3", "<answer>3 or 4</answer>"),
        ("(1, 2)", r"\boxed{(2, 2)}"),
        ("(1, 2)", "<answer>2</answer>"),
        ("Paris", "<answer>Sirap</answer>"),
        ("A", r"\boxed{B}"),
    ],
)
def test_wrong(answer: str, completion: str) -> None:
    assert math(prompt(answer), completion) == 0.0


def test_without_a_reference_it_does_not_apply() -> None:
    assert math(prompt(), r"\boxed{5}") is None
    assert math(prompt(""), "") is None


@pytest.mark.parametrize("piece", [r"\boxed{", "<answer>", "{", r"\boxed{}", "1 "])
def test_a_completion_that_repeats_itself_takes_little_time(piece: str) -> None:
    start = time.perf_counter()
    assert math(prompt("5"), piece * 20_000) == 0.0
    assert time.perf_counter() - start < 5


def test_a_missing_package_is_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> ModuleType:
        raise builtins.ModuleNotFoundError(name, name=name)

    monkeypatch.setattr(importlib, "import_module", absent)
    load_library.cache_clear()
    with pytest.raises(UserError, match=r"math needs the package math-verify: pip install 'groupwise\[math\]'"):
        load_library()
