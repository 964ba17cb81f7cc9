"""Comparing uses of a sparse autoencoder at equal size and equal operations: arms, sizes, budgets, trainings."""
