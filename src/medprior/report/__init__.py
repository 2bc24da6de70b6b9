"""Verdicts and data cards as pages."""
