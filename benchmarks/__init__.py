"""Benchmarks: one file per claim, every peer timed beside ours in the same run. Start with ``python -m benchmarks.run``."""
