"""Benchmarks of the ops, of maps and of models against other libraries."""
