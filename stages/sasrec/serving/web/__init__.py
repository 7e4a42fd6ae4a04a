"""Serves a page to try the model, and the JSON interface behind it."""
