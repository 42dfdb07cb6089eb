"""What a user feels: seconds of training until seedling is as good as TRL makes it with the demo's rollouts.

    python benchmarks/time_to_score.py [--budget-minutes 120]       tune TRL's learning rate, then paired seeds
    python benchmarks/time_to_score.py --report                     what the runs so far show, into docs/speed.md

One run at a time, each on all cores; a run that is done is not made again, so it can be stopped and resumed. Results
lie in benchmarks/results/time_to_score/. docs/speed.md says what is measured.
"""

from time_to_score.command import main  # the package beside this file

if __name__ == "__main__":
    main(__doc__)
