"""Encoders in the forms of other libraries."""
