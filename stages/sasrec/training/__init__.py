"""Trains SASRec: losses, sampling, steps and the loop."""
