"""Which warnings put the verdict itself in doubt: they stand where nobody can miss them, the others are folded."""

from __future__ import annotations

from collections.abc import Iterable

GRAVE = (
    "Patients are unknown",
    "no patient: pre-training may meet",
    "their patients are unknown",
    "like copies of test images",
    "may have seen test patients",
    "may be a shortcut for",
    "shown to do better",
    "Too few patients:",
    "differences that matter may go unseen",
)
"""What is said of leaks, unknown patients, shortcuts and tiny test sets, wherever medprior says it."""


def by_gravity(warnings: Iterable[str]) -> tuple[list[str], list[str]]:
    """The warnings that put a verdict in doubt, and the others, each in the order in which they came."""
    grave: list[str] = []
    others: list[str] = []
    for warning in warnings:
        (grave if any(words in warning for words in GRAVE) else others).append(warning)
    return grave, others
