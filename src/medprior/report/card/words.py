"""How a data card names what it counts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from medprior.data.card.content import Intensity, Kind, Sizes, Spread
from medprior.report.wording import number

MODALITIES = {
    "BMD": "Bone densitometry",
    "CR": "X-ray, computed (CR)",
    "CT": "CT",
    "DX": "X-ray",
    "ES": "Endoscopy",
    "GM": "Microscopy",
    "IO": "Dental X-ray",
    "IVUS": "Intravascular ultrasound",
    "MG": "Mammography",
    "MR": "MR",
    "NM": "Nuclear medicine",
    "OP": "Fundus photography",
    "OPT": "Optical coherence tomography",
    "OT": "Other (OT)",
    "PT": "PET",
    "PX": "Panoramic X-ray",
    "RF": "Fluoroscopy",
    "SC": "Secondary capture",
    "SM": "Slide microscopy",
    "US": "Ultrasound",
    "XA": "Angiography",
    "XC": "Photography",
}
READERS = {
    "raster": "PNG, JPEG, TIFF and the like",
    "arrays": "NumPy arrays",
    "dicom": "DICOM",
    "volume": "NIfTI, NRRD or MetaImage",
}
PROBLEMS = {
    "unreadable": "Cannot be read",
    "doubt": "Doubt",
    "apart": "Set apart",
    "no image": "No image in it",
}
LEAKS = {
    "split": "Copies in more than one split",
    "patient": "Patients in more than one split",
    "labels": "Copies whose labels contradict each other",
    "pool": "Copies with and without a label",
}
TREATMENTS = {
    "8-bit": "8-bit values",
    "Hounsfield": "Hounsfield units",
    "Hounsfield by its values": "Hounsfield units, by the values",
    "CT in other units": "CT in other units",
    "MR": "MR units",
    "X-ray": "X-ray units",
    "emission": "Emission units",
    "unknown": "Values of unknown unit",
}


def kind_name(kind: Kind) -> str:
    """What a kind of scan is called."""
    if kind.modality:
        return MODALITIES.get(kind.modality, kind.modality)
    return "Modality unknown"


def kind_note(kind: Kind) -> str:
    """What folders suggest where no header says the modality, or ""."""
    return f"folder names suggest {MODALITIES.get(kind.hint, kind.hint)}" if kind.hint else ""


def amounts(kind: Kind) -> str:
    """ "60 images and 1 volume"."""
    pairs = (kind.images, "image"), (kind.volumes, "volume")
    return " and ".join(counted(count, word) for count, word in pairs if count)


def counted(count: int, word: str) -> str:
    """ "1 image", "3,848 images"."""
    return f"{count:,} {word if count == 1 else word + 's'}"


def shares(counts: Mapping[str, int], names: Mapping[str, str] | None = None) -> str:
    """ "uint8", or "uint8 (12), int16 (3)" where there are several."""
    named = [((names or {}).get(name, name), count) for name, count in counts.items()]
    if len(named) == 1:
        return named[0][0]
    return ", ".join(f"{name} ({count:,})" for name, count in named)


def shape_text(shape: Sequence[int]) -> str:
    """ "512 × 384": width first, as screens are named; volumes end with their slices."""
    return " × ".join(f"{n:,}" for n in reversed(shape))


def sizes_text(sizes: Sizes) -> str:
    """The size that all have, or the range with the most frequent."""
    often, count = sizes.frequent[0]
    if sizes.different == 1:
        return f"{shape_text(often)}, all of them"
    common = f"; most often {shape_text(often)} ({count:,})" if count > 1 else ""
    return f"{sizes.different:,} sizes from {shape_text(sizes.least)} to {shape_text(sizes.most)}{common}"


def spacing_text(sizes: Sizes) -> str:
    """Millimetres per pixel or voxel, in plane (across × down where pixels are not square) and between slices."""
    if not sizes.spaced:
        return "not said in any file"
    plane = f"{_in_plane(sizes.spacing[-1], sizes.spacing[-2])} mm in plane"
    if sizes.dims == 3:
        plane = f"{plane}, {_range(sizes.spacing[0])} mm between slices"
    rest = sizes.scans - sizes.spaced
    silent = f"; {rest:,} without" if rest else ""
    coarse = f"; {sizes.anisotropic:,} anisotropic (over 2 to 1)" if sizes.anisotropic else ""
    return f"{plane}{coarse}{silent}"


def _in_plane(across: Spread, down: Spread) -> str:
    one, other = _range(across), _range(down)
    return one if one == other else f"{one} × {other}"


def _range(spread: Spread) -> str:
    if spread.most - spread.least < 0.005 * spread.most:
        return number(spread.median)
    return f"{number(spread.least)}–{number(spread.most)} (median {number(spread.median)})"


def window_text(values: Intensity) -> str:
    """From which value to which grey levels run."""
    black, white = (number(edge) for edge in values.window)
    if not values.relative:
        return f"black is {black}, white {white}{' ' + values.unit if values.unit else ''}, in every scan"
    if values.varies is None:
        return f"black is {black}, white {white}"
    ends = [f"{number(least)} to {number(most)}" for least, most in values.varies]
    return f"each scan has its own; in the middle 80% of scans black is {ends[0]}, white {ends[1]}"


def channels_text(kind: Kind) -> str:
    """Grey or colour; colour that is grey throughout is said."""
    if kind.grey and kind.grey == kind.scans:
        return "grey, stored as colour in all of them"
    names = {"1": "grey", "3": "colour"}
    said = shares({names.get(count, f"{count} channels"): scans for count, scans in kind.channels.items()})
    return f"{said}; {kind.grey:,} of those in colour are grey throughout" if kind.grey else said


def distance_text(distance: float) -> str:
    """Three decimals, and no 0 for what is not the same."""
    return f"{distance:.3f}" if distance >= 0.0005 else "under 0.001"
