"""Systems to train, each as pure functions: see :class:`saegan_jax.algorithms.base.Algorithm`."""
