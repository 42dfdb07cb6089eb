"""The curves of cost behind docs/speed.md; started by benchmarks/scaling.py."""
