"""Runs from the command line: options, presets, opening and restoring a run folder, and what a run leaves."""
