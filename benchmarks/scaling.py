"""How the cost of a step grows: seconds and peak memory of generating and updating along five axes.

    python benchmarks/scaling.py [--axes prompt layers] [--quick]
    python benchmarks/scaling.py --report        the points so far, into docs/speed.md and docs/images/

Each point has a process of its own; one that is there is not measured again, so it can be stopped and resumed. Results
lie in benchmarks/results/scaling/. docs/speed.md says what is measured.
"""

from scaling.command import main  # the package beside this file

if __name__ == "__main__":
    main(__doc__)
