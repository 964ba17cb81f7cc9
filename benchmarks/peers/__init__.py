"""The same training in other frameworks: one module a framework, and :mod:`benchmarks.peers.registry`."""
