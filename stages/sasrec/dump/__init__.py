"""Fetches the dump and parses it."""
