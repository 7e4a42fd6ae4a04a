"""Reads and writes files: atomic writes, digests, Parquet, storages, progress and Spark."""
