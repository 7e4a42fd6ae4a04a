"""Prepares where and how tensors are computed: reproducibility, device, processes, memory."""
