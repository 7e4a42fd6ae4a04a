"""Ranks held-out books by the model and by baselines, and computes metrics."""
