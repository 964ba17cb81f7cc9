"""Measuring what was trained: feature networks, sample quality, scores of autoencoders, probes."""
