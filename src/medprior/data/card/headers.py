"""What the headers of DICOM files say of patients, sites and scanners, counted in groups that name no one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from medprior.data.annotations.groups import header_groupings

if TYPE_CHECKING:
    from medprior.data.annotations.grouping import Grouping
    from medprior.data.catalog import Catalog


@dataclass(frozen=True)
class HeaderGroup:
    """A group by what headers say: its scans, and the patients they are of."""

    name: str
    scans: int
    patients: int


@dataclass(frozen=True)
class HeaderFact:
    """What headers say of one thing.

    Attributes:
        name: as `--groups` takes it.
        said: scans whose header says it.
        silent: DICOM scans whose header does not.
        groups: bands of a number, or values; sites by number, and what few patients have as "other".
    """

    name: str
    said: int
    silent: int
    groups: tuple[HeaderGroup, ...]


def headers(catalog: Catalog) -> tuple[HeaderFact, ...]:
    """Each fact that headers can say, also those that none says; () of a folder without DICOM."""
    dicom = catalog.table["reader"].to_numpy(dtype=str) == "dicom"
    persons = catalog.persons()
    return tuple(_fact(one, dicom, persons) for one in header_groupings(catalog)) if dicom.any() else ()


def _fact(one: Grouping, dicom: NDArray[np.bool_], persons: NDArray[np.int64]) -> HeaderFact:
    inside = [one.member == number for number in range(len(one.groups))]
    groups = [
        HeaderGroup(name, int(here.sum()), len(np.unique(persons[here])))
        for name, here in zip(one.groups, inside, strict=True)
    ]
    return HeaderFact(one.name, int((one.member >= 0).sum()), int((dicom & (one.member < 0)).sum()), tuple(groups))
