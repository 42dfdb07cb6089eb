"""The study behind docs/sample-efficiency.md; started by benchmarks/sample_efficiency.py."""
