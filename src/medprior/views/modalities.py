"""What is known of each modality for its views, read from `recipes.yaml`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

import yaml

from medprior.views.acquisition import Window, change_of

UNITS = 2000.0
"""HU that the values [0, 1] of a CT span by default: from -1000 to 1000."""


@dataclass(frozen=True)
class Family:
    """Modalities whose views change alike.

    Attributes:
        codes: of DICOM.
        unoriented: whether their images have no given orientation.
        contrastive, adaptation: settings of a ViewRecipe that take the place of the usual ones.
    """

    codes: tuple[str, ...] = ()
    unoriented: bool = False
    contrastive: Mapping[str, Any] = field(default_factory=dict)
    adaptation: Mapping[str, Any] = field(default_factory=dict)

    def settings(self, use: Literal["contrastive", "adaptation"], units: float) -> dict[str, Any]:
        """The settings of a ViewRecipe for a use, for scans whose values [0, 1] span `units`."""
        given = self.contrastive if use == "contrastive" else self.adaptation
        changes = [change_of(change) for change in given.get("acquisition", ())]
        fitted = tuple(replace(c, units=units) if isinstance(c, Window) else c for c in changes)
        return {**given, "acquisition": fitted}


def family_of(modality: str | None) -> Family:
    """The family of a DICOM code in any case; one of which nothing is known where there is none."""
    code = (modality or "").upper()
    return next((family for family in families().values() if code in family.codes), Family())


@cache
def families() -> dict[str, Family]:
    """All families by name."""
    found = yaml.safe_load((Path(__file__).parent / "recipes.yaml").read_text(encoding="utf-8"))
    return {
        name: Family(
            codes=tuple(known["codes"]),
            unoriented=bool(known.get("unoriented", False)),
            contrastive=known.get("contrastive", {}),
            adaptation=known.get("adaptation", {}),
        )
        for name, known in found.items()
    }
