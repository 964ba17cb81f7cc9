"""Flax modules. Everything outside this folder sees ``init`` and ``apply`` functions and pytrees only."""
