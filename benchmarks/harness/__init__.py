"""Timing, worker processes, costs of programs, result files, tables and pictures: nothing of what is timed."""
