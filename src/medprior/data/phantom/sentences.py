"""Template sentences of a radiology report."""

from __future__ import annotations

from medprior.data.phantom.chest import Anatomy, Lesion


def report(anatomy: Anatomy) -> tuple[str, ...]:
    """What a reader would dictate: lungs, pleura, heart, bones."""
    return (*_lungs(anatomy), _pleura(anatomy), _heart(anatomy), "No acute bony abnormality.")


def _lungs(anatomy: Anatomy) -> list[str]:
    if not anatomy.lesions:
        return ["The lungs are clear."]
    return [_nodule(lesion) for lesion in anatomy.lesions]


def _nodule(lesion: Lesion) -> str:
    kind = "mass" if lesion.diameter > 30 else "nodule"
    return f"A {lesion.diameter:.0f} mm {kind} in the {lesion.side} {lesion.zone} zone."


def _pleura(anatomy: Anatomy) -> str:
    sides = list(anatomy.effusions)
    if not sides:
        return "No pleural effusion."
    size = "large" if max(anatomy.effusions.values()) > 0.24 * anatomy.build.lung_height else "small"
    if len(sides) == 2:
        return f"Bilateral pleural effusions, up to {size}."
    return f"A {size} {sides[0]} pleural effusion."


def _heart(anatomy: Anatomy) -> str:
    return "The heart is enlarged." if anatomy.cardiomegaly else "The heart is of normal size."
