"""Measurements whose results are kept in experiments/results."""
