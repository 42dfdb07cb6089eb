"""Side by side with TRL's GRPOTrainer: seconds and memory of a GRPO step on the same work, on the same machine.

    python benchmarks/compare_trl.py --work size1 --pairs 8 [--dtype bfloat16] [--device cuda]
    python benchmarks/compare_trl.py --report        all results so far, into docs/speed.md

At its first use it builds TRL's own virtual environment, .venv-trl, from requirements-trl.lock. The last line it prints
is one JSON object, which also becomes benchmarks/results/compare_trl/WORK.json. docs/speed.md says what is measured.
"""

from compare_trl.command import main  # the package beside this file

if __name__ == "__main__":
    main(__doc__)
