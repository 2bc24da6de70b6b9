"""Scans that stand in a catalog more than once, and what they tear."""
