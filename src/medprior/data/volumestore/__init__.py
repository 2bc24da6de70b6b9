"""Volumes in compressed chunks, for crops."""
