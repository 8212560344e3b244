"""Triton: model configuration, repository layout, and the server as a process."""
