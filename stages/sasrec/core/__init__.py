"""Serves every stage: params, errors, signals and the command line."""
