"""The comparison with TRL behind docs/speed.md; started by benchmarks/compare_trl.py."""
