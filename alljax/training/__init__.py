"""Batches to parameters."""
