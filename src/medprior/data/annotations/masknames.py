"""What names say of a file: that it is a mask or an image, and which image a mask is of."""

from __future__ import annotations

import posixpath
import re
import unicodedata
from functools import lru_cache
from itertools import pairwise

from medprior.data.readers import stem_of

MASK_WORDS = frozenset(
    {"mask", "masks", "label", "labels", "seg", "segs", "segmentation", "segmentations", "annotation", "annotations"}
    | {"gt", "groundtruth", "manual", "contour", "contours"}
)
IMAGE_WORDS = frozenset(
    {"image", "images", "img", "imgs", "imaging", "scan", "scans", "volume", "volumes", "picture", "pictures"}
    | {"photo", "photos", "slice", "slices", "raw"}
)
SEQUENCES = frozenset({"t1", "t1w", "t1n", "t1c", "t1ce", "t1gd", "t2", "t2w", "t2f", "flair", "dwi", "adc", "pd"})
"""How MR sequences of one examination are told apart; a mask belongs to all of them."""
SPLITS = {"tr": "train", "ts": "test", "train": "train", "training": "train", "test": "test", "testing": "test"} | {
    "val": "val", "valid": "val", "validation": "val", "unlabelled": "unlabelled", "unlabeled": "unlabelled"
}  # fmt: skip
_OTHERWISE = frozenset({"with", "without", "no", "non", "un", "and", "plus"})
"""With one of these a name does not mean a folder of masks: "labels_and_images", "without_mask"."""
_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+|[^\W\d_]+")
_WORD = "masks?|labels?|segs?|segmentations?|annotations?|gt|ground[-_. ]?truth|manual|contours?"
_ENDING = re.compile(rf"(^|.*?[^a-z])(({_WORD})([-_. ]?\d{{1,2}})?|\d+(st|nd|rd|th)?ho)$")
_START = re.compile(rf"({_WORD})(?=[^a-z])[-_. ]*(.+)$")
_CHANNEL = re.compile(r"(.+)_00\d\d$")
_LAST_WORD = re.compile(r"(.*?)[-_. ]+([^\W\d]+)$")
_IMAGE_START = re.compile(rf"({'|'.join(sorted(IMAGE_WORDS))})(?=[^a-z])[-_. ]*(.+)$")
_IMAGE_END = frozenset({*IMAGE_WORDS, "orig", "original", "training", "test", "ct", "mr", "mri"})
_DICOM = (".dcm", ".dicom", ".ima")


@lru_cache(maxsize=1 << 18)
def stem(path: str) -> str:
    """The file name without the ending of its format, in one case and one way of writing accents."""
    name = unicodedata.normalize("NFC", stem_of(path)).casefold()
    return next((name.removesuffix(ending) for ending in _DICOM if name.endswith(ending)), name)


@lru_cache(maxsize=1 << 16)
def words(name: str) -> frozenset[str]:
    """The words of a folder's name, small: "lungVAE-masks" holds lung, vae and masks."""
    found = [word.casefold() for word in _WORDS.findall(unicodedata.normalize("NFC", name))]
    together = {"groundtruth"} if ("ground", "truth") in pairwise(found) else set()
    return frozenset({*found, *together})


def says_mask(folder: str) -> bool:
    """Whether a folder's name says that masks lie in it."""
    found = words(folder)
    return bool(found & MASK_WORDS) and not found & _OTHERWISE


def says_image(folder: str) -> bool:
    """Whether a folder's name says that images lie in it, and masks do not."""
    found = words(folder)
    return bool(found & IMAGE_WORDS) and not found & MASK_WORDS


def mask_folder(path: str) -> int | None:
    """Which folder of a path says that it is a mask (0 is the first), or None: the innermost that speaks decides."""
    return _speaking(posixpath.dirname(path))


@lru_cache(maxsize=1 << 16)
def _speaking(path: str) -> int | None:
    folders = path.split("/")
    for i in reversed(range(len(folders))):
        found = words(folders[i])
        if found & (MASK_WORDS | IMAGE_WORDS):
            return i if says_mask(folders[i]) else None
    return None


def agree(mask: str, image: str) -> bool:
    """Whether two folders can belong together: "labelsTr" and "imagesTs" cannot."""
    a, b = ({SPLITS[word] for word in words(folder) & SPLITS.keys()} for folder in (mask, image))
    return a == b or not b or (not a and "unlabelled" not in b)


def tail(folder: str) -> frozenset[str]:
    """What a folder's name says besides mask or image."""
    return words(folder) - MASK_WORDS - IMAGE_WORDS


def bares(name: str) -> tuple[str, ...]:
    """A stem without the words that say it is a mask: "a_mask" and "mask_a" give "a", "mask" gives "", and "mask_1" may
    be the mask of "1" or one of several: ("1", ""). Nothing where no word says so."""
    start, ending = _START.match(name), _ENDING.match(name)
    found = [start[2]] if start else []
    return (*found, ending[1].rstrip("-_. ")) if ending else tuple(found)


def without_parts(name: str) -> list[str]:
    """A stem without its last one or two words, which name what a mask shows: "a_left_lung" gives a_left and a."""
    shorter = []
    for _ in range(2):
        match = _LAST_WORD.match(name)
        if match is None or not match[1]:
            break
        shorter.append(name := match[1])
    return shorter


def shared_name(name: str) -> str | None:
    """What the channels or the MR sequences of one examination share: "a_0000" and "a_t1" give "a"; else None."""
    if channel := _CHANNEL.match(name):
        return channel[1]
    head, last = _split_last(name)
    return head if last in SEQUENCES else None


def image_name(name: str) -> str | None:
    """A stem without the word that says it is an image: "image_7" and "7_training" give "7"; else None."""
    if start := _IMAGE_START.match(name):
        return start[2]
    head, last = _split_last(name)
    return head if head and last in _IMAGE_END else None


def _split_last(name: str) -> tuple[str, str]:
    """The last word of a stem and what comes before it."""
    parts = re.split(r"[-_. ](?=[^-_. ]*$)", name)
    return (parts[0].rstrip("-_. "), parts[1]) if len(parts) == 2 else ("", name)


def is_plain_image(name: str) -> bool:
    """Whether a whole stem is a word for an image, such as "imaging" or "ct"."""
    return name in _IMAGE_END


def is_plain_part(name: str) -> bool:
    """Whether a stem can be the name of what a mask shows, such as "liver": it has no number."""
    return not any(letter.isdigit() for letter in name)
