"""How the two hospitals of a cohort differ beside their detectors: whom they see, and a mark on their X-rays.

A mark that the sicker hospital leaves in the corner of its X-rays is the classical shortcut of chest X-ray models
(Zech et al., PLoS Med 2018): it can be read more easily than a lesion, and goes with it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from medprior.data.phantom.build import SITES, stream
from medprior.data.phantom.chest import Anatomy
from medprior.errors import SettingsError

LETTER = np.array([[1, 0, 0, 1], [1, 0, 0, 1], [1, 1, 1, 1], [1, 0, 0, 1], [1, 0, 0, 1]], bool)
"""The mark, of cells that are a 40th of the image's side."""


@dataclass(frozen=True)
class Sites:
    """The hospitals of a cohort.

    Attributes:
        ill_in_south: share of the patients with a lesion who go to the second hospital, and of those without who go to
            the first; half of both when None, whatever they have.
        marked: whether X-rays of the second hospital carry a bright letter in a corner.
        alike: whether both hospitals have the detector of the first.
    """

    ill_in_south: float | None = None
    marked: bool = False
    alike: bool = False

    def __post_init__(self) -> None:
        if self.ill_in_south is not None and not 0 <= self.ill_in_south <= 1:
            raise SettingsError(f"ill_in_south is {self.ill_in_south}", do="It is a share, from 0 to 1")

    def sent(self, person: Anatomy) -> Anatomy:
        """The patient at the hospital that these sites send it to; the same at every visit."""
        if self.ill_in_south is None:
            return person
        south = self.ill_in_south if person.lesions else 1 - self.ill_in_south
        chance = stream(person.seed, person.patient, 6).random()
        return replace(person, site=SITES[int(chance < south)])

    def detector(self, person: Anatomy) -> str:
        """The hospital whose detector takes the X-ray."""
        return SITES[0] if self.alike else person.site

    def mark(self, image: NDArray[np.uint8], person: Anatomy) -> NDArray[np.uint8]:
        """The X-ray (H, W) with its hospital's mark, a little elsewhere and a little brighter from visit to visit."""
        if not self.marked or person.site != SITES[1]:
            return image
        rng = stream(person.seed, person.patient, 7, person.visit)
        cell = max(1, len(image) // 40)
        letter = np.kron(LETTER, np.ones((cell, cell), bool))
        top, left = (int(rng.integers(cell, 3 * cell + 1)) for _ in range(2))
        marked = image.copy()
        marked[top : top + len(letter), left : left + letter.shape[1]][letter] = int(rng.integers(215, 256))
        return marked
