"""Scans at their full resolution in compressed chunks, for crops."""
