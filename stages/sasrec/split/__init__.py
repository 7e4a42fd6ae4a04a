"""Holds out users and books, draws negatives, and reads and writes the data sets."""
