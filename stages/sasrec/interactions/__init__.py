"""Filters, numbers and orders reviews."""
