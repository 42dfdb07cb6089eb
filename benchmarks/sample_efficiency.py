"""Do group-aware advantages pay? Three measurements, kept in benchmarks/results/sample_efficiency/.

    python benchmarks/sample_efficiency.py variance      spread and bias of each estimator's gradient, offline
    python benchmarks/sample_efficiency.py learning      held-out accuracy by rollouts, many seeds; --budget-minutes M
    python benchmarks/sample_efficiency.py report        what the learning runs show, so far
    python benchmarks/sample_efficiency.py overhead      what grouping and advantages cost

All can be stopped and resumed. docs/sample-efficiency.md says what is measured and how.
"""

from sample_efficiency.command import main  # the package beside this file

if __name__ == "__main__":
    main(__doc__)
