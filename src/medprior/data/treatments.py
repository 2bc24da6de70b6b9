"""Which treatment the intensities of a scan get, told from its modality and from what its values show."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from medprior.data.facts import RANKS

if TYPE_CHECKING:
    import pandas as pd

XRAY = ("CR", "DX", "IO", "MG", "PX", "RF", "XA")
EMISSION = ("NM", "PT")
AIR = (-1100.0, -900.0)
"""Where air lies in Hounsfield units, as scanners measure it."""
_PADDING = -4100.0  # what vendors put outside the round field of view: down to -4096
_METAL = 32767.0
_DENSE = 900.0  # HU; only compact bone, teeth and metal lie above it
_NORMALISED = 10.0  # values that are all closer to 0 were divided by something


@dataclass(frozen=True)
class Treatment:
    """What is done, and why, in words that follow the name of a modality.

    Attributes:
        how: "range" (from `low` to `high` in physical values), "percentiles" (each scan from its `low`th to its
            `high`th), "from zero" (from 0 to its `high`th percentile), or "as it is" (0 to 255).
    """

    how: str
    low: float
    high: float
    why: str


TREATMENTS = {
    "8-bit": Treatment("as it is", 0, 255, "they have 8 bits already, so nothing is lost"),
    "Hounsfield": Treatment(
        "range", -1000, 1000, "Hounsfield units mean the same in every scan, so all share one range"
    ),
    "Hounsfield by its values": Treatment(
        "range",
        -1000,
        1000,
        "their header names no modality, but whole numbers with air near -1000 are Hounsfield units",
    ),
    "CT in other units": Treatment(
        "percentiles",
        0.5,
        99.5,
        "their values cannot be Hounsfield units (all scaled to a few units, without anything below water, or their "
        "header says so)",
    ),
    "MR": Treatment("percentiles", 0.5, 99.5, "the unit of MR differs from scan to scan and means nothing by itself"),
    "X-ray": Treatment(
        "percentiles",
        0.5,
        99.5,
        "exposure and detector differ from film to film; more absorption is brighter, inverted films were turned",
    ),
    "emission": Treatment(
        "from zero", 0, 99.9, "zero means no uptake, and lesions are the few brightest voxels, so little is cut above"
    ),
    "unknown": Treatment(
        "percentiles", 0.5, 99.5, "their units are unknown, and a few extreme pixels must not darken the rest"
    ),
}


def treatments_of(table: pd.DataFrame) -> NDArray[np.str_]:
    """(N,) the name in `TREATMENTS` for every scan of a catalog's table.

    Read are `modality`, `units`, `dtype`, `shape` and `quantiles` of that scan alone, so that it is treated the same in
    whatever company it comes.
    """
    modality = modalities(table)
    quantiles = first_quantiles(table)
    eight = _made_for_the_eye(table, modality) | _ultrasound_in_8_bits(modality, quantiles)
    return np.select(
        [
            eight,
            (modality == "CT") & (_no_hounsfield(table, quantiles) | _said_other(table, quantiles)),
            modality == "CT",
            (modality == "") & _hounsfield(quantiles),
            modality == "MR",
            np.isin(modality, XRAY),
            np.isin(modality, EMISSION) & (quantiles[:, RANKS.index(5)] >= 0),
        ],
        ["8-bit", "CT in other units", "Hounsfield", "Hounsfield by its values", "MR", "X-ray", "emission"],
        "unknown",
    )


def modalities(table: pd.DataFrame) -> NDArray[np.str_]:
    """(N,) DICOM codes; "" where unknown."""
    codes = table["modality"].to_numpy(dtype=object)
    return np.array([code if isinstance(code, str) else "" for code in codes], dtype=str)


def first_quantiles(table: pd.DataFrame) -> NDArray[np.float64]:
    """(N, ranks) of the first channel."""
    return np.array([row[0] for row in table["quantiles"]], np.float64).reshape(-1, len(RANKS))


def _hounsfield(quantiles: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Whole numbers, some half of the scan or less of it air near -1000, the rest up to tissue, bone or metal."""
    low = quantiles[:, : RANKS.index(50) + 1]
    air = ((low >= AIR[0]) & (low <= AIR[1])).any(axis=1)
    whole = (quantiles == np.rint(quantiles)).all(axis=1)
    least, most = quantiles[:, 0], quantiles[:, -1]
    return np.asarray(whole & air & (least >= _PADDING) & (most > 0) & (most <= _METAL), np.bool_)


def _no_hounsfield(table: pd.DataFrame, quantiles: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Values as stored by the scanner (nothing below water, a twentieth denser than bone), or scaled to a few units."""
    floats = np.char.startswith(table["dtype"].to_numpy(dtype=str), "float")
    scaled = floats & (np.abs(quantiles[:, [0, -1]]).max(axis=1) <= _NORMALISED)
    stored = (quantiles[:, 0] >= 0) & (quantiles[:, RANKS.index(95)] >= _DENSE)
    return np.asarray(scaled | stored, np.bool_)


def _said_other(table: pd.DataFrame, quantiles: NDArray[np.float64]) -> NDArray[np.bool_]:
    """The header names another unit; where it leaves the unit open (US), the values decide."""
    if "units" not in table:
        return np.zeros(len(table), np.bool_)
    units = table["units"].to_numpy(dtype=object)
    named = np.array([isinstance(unit, str) and unit != "US" for unit in units], np.bool_)
    return np.asarray(named | ((units == "US") & ~_hounsfield(quantiles)), np.bool_)


def _made_for_the_eye(table: pd.DataFrame, modality: NDArray[np.str_]) -> NDArray[np.bool_]:
    """8 bits, but for volumes of MR or of unknown modality: there, 8 bits are an export with a unit of its own."""
    eight = np.isin(table["dtype"].to_numpy(dtype=str), ("uint8", "bool"))
    volume = np.array([len(shape) == 3 for shape in table["shape"]], np.bool_)
    return np.asarray(eight & ~(volume & np.isin(modality, ("", "MR"))), np.bool_)


def _ultrasound_in_8_bits(modality: NDArray[np.str_], quantiles: NDArray[np.float64]) -> NDArray[np.bool_]:
    whole = (quantiles == np.rint(quantiles)).all(axis=1)
    inside = (quantiles[:, 0] >= 0) & (quantiles[:, -1] <= 255)
    return np.asarray(whole & inside & (modality == "US"), np.bool_)
