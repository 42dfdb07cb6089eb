"""The race to TRL's score behind docs/speed.md; started by benchmarks/time_to_score.py."""
