"""Which file is the mask of which image, told from names alone.

A file is a mask when its folder says so (`labelsTr` beside `imagesTr`, `masks` beside `images`) or its own name does
(`a_mask.png` beside `a.png`), and an image of that name is there. An image folder next to a mask folder makes all of
the latter masks; without one, at least half of its files must find their image, so that folders of classes
("label_1") stay images. nnU-Net's channels (`a_0000`, `a_0001`) and MR sequences (`a_t1`, `a_t2`) share one mask.
"""

from __future__ import annotations

import posixpath
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import takewhile

from medprior.data.annotations import masknames as names
from medprior.data.annotations.maskpool import NONE, Folder, Images, Pool

MASKS = ("mask", "segmentation", "mask_path", "seg")
"""Names of a table's column that says which mask an image has."""


@dataclass(frozen=True)
class Pairing:
    """Which masks belong to which image.

    Attributes:
        masks: for each image that has one, its masks, sorted; where there are several (two readers, several organs)
            the first is the mask and the others are extra.
        alone: masks in a folder of masks whose image is not there.
        ambiguous: for each mask that could be of several images, those.
    """

    masks: dict[str, tuple[str, ...]]
    alone: tuple[str, ...]
    ambiguous: dict[str, tuple[str, ...]]

    def below(self, way: str) -> Pairing:
        """The same masks, where `way` leads to all their paths."""
        masks = {image: tuple(way + mask for mask in found) for image, found in self.masks.items()}
        ambiguous = {way + mask: images for mask, images in self.ambiguous.items()}
        return Pairing(masks, tuple(way + mask for mask in self.alone), ambiguous)

    def not_images(self) -> frozenset[str]:
        """Every path that is a mask, paired or not."""
        return frozenset({*(m for found in self.masks.values() for m in found), *self.alone, *self.ambiguous})


def looks_like_mask(path: str) -> bool:
    """Whether a path (with forward slashes) is named as a mask; only `pair_masks` knows whether it is one."""
    return names.mask_folder(path) is not None or bool(names.bares(names.stem(path)))


def pair_masks(paths: Sequence[str]) -> Pairing:
    """Find the images of all masks in `paths`, which are relative to one folder, with forward slashes.

    Of a series of files, or of a file of many frames, give one path.
    """
    inside = {path: i for path in paths if (i := names.mask_folder(path)) is not None}
    named = {path for path in paths if path not in inside and names.bares(names.stem(path))}
    if not inside and not named:
        return Pairing({}, (), {})
    pool = Pool(path for path in paths if path not in inside and path not in named)
    found = {path: images for path in sorted(named) if (images := _by_own_name(path, pool))}
    pool.add(named - found.keys())
    alone = _by_folder(inside, pool, found)
    _by_themselves(inside.keys() - found.keys() - set(alone), found)
    return _pairing(found, alone)


def pair_apart(images: Sequence[str], masks: Sequence[str], folder: str) -> Pairing:
    """The images of masks that lie in a folder of their own, wherever that is: all of `masks` are masks and all of
    `images` images, whatever they are called.

    A mask is of the image in a folder called as its own; else of an image of its name anywhere, nnU-Net's `a_0000` and
    other names that `pair_masks` knows included; else of the one image in a folder of its name.

    Args:
        images: relative to the folder of scans, with forward slashes.
        masks: relative to the folder of masks.
        folder: what that one is called: masks of "labelsTr" are of no image in "imagesTs".
    """
    apart = _Apart.of(images, masks, folder)
    found = {mask: apart.images_of(mask) for mask in masks}
    alone = sorted(mask for mask, of in found.items() if not of)
    return _pairing({mask: of for mask, of in found.items() if of}, alone)


@dataclass(frozen=True)
class _Apart:
    """What is needed to find the images of masks that lie apart: the images by folder, all together, and the folders
    by the name of the innermost; how many masks have each name; and what the folder of the masks is called."""

    pool: Pool
    everywhere: Folder
    called: Mapping[str, Sequence[str]]
    often: Counter[str]
    folder: str

    @classmethod
    def of(cls, images: Sequence[str], masks: Sequence[str], folder: str) -> _Apart:
        pool, everywhere = Pool(images), Folder()
        for path in sorted(images):
            everywhere.add(path)
        called: dict[str, list[str]] = defaultdict(list)
        for where in pool.within:
            for name in _places(where)[-1:]:
                called[name].append(where)
        return cls(pool, everywhere, called, Counter(map(names.stem, masks)), folder)

    def images_of(self, mask: str) -> Images:
        """The images of one mask."""
        stem, inside = names.stem(mask), _places(posixpath.dirname(mask))
        whole = "" in names.bares(stem) or names.is_plain_part(stem)
        near = [self.pool.within[where].find(stem) for where in self._called(inside[-1:])]
        cases = [
            self.pool.within[where].case()
            for where in self._called(inside[-1:] if whole else (stem, *names.bares(stem)))
        ]
        return (
            self._agreeing(mask, near)
            or self._agreeing(mask, [self.everywhere.find(stem)])
            or self._agreeing(mask, [case for case in cases if case.certain])
        )

    def _called(self, names_of_folders: Sequence[str]) -> list[str]:
        return [where for name in names_of_folders for where in self.called.get(name, ())]

    def _agreeing(self, mask: str, found: Sequence[Images]) -> Images:
        """Those in folders that can be of the mask's folder, and of these the ones that are called most alike."""
        apart = posixpath.join(self.folder, posixpath.dirname(mask))
        alike = {
            path: _shared_end(mask, path)
            for images in found
            for path in images.paths
            if names.agree(apart, posixpath.dirname(path)) and not self._strange(mask, path)
        }
        some = [path for path, shared in alike.items() if shared == max(alike.values())]
        certain = all(images.certain for images in found) and len({posixpath.dirname(path) for path in some}) == 1
        return Images(some, len(some) == 1 or certain)

    def _strange(self, mask: str, image: str) -> bool:
        """Whether a name that many files may have is all that the two share: "p1/ct.nii" and "p2/ct.nii"."""
        stem = names.stem(mask)
        common = self.often[stem] > 1 or names.is_plain_part(stem)
        both = all(_places(posixpath.dirname(path)) for path in (mask, image))
        return common and both and not _shared_end(mask, image)


def _shared_end(mask: str, image: str) -> int:
    """How many of the innermost folders of two paths have the same names."""
    pairs = zip(*(reversed(_places(posixpath.dirname(path))) for path in (mask, image)), strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


@lru_cache(maxsize=1 << 16)
def _places(folder: str) -> tuple[str, ...]:
    """The folders of a path, in one case, without those that say no more than that masks or images, or those of a
    split, lie in them."""
    plain = names.MASK_WORDS | names.IMAGE_WORDS | names.SPLITS.keys()
    return tuple(names.stem(part) for part in folder.split("/") if names.words(part) - plain)


def _by_themselves(paths: set[str], found: dict[str, Images]) -> None:
    """Fill `found` with masks in folders that are named as if of masks, and are none: they hold images too."""
    named = {path for path in paths if names.bares(names.stem(path))}
    pool = Pool(paths - named)
    found |= {path: images for path in sorted(named) if (images := _by_own_name(path, pool))}


def _pairing(found: dict[str, Images], alone: list[str]) -> Pairing:
    masks = defaultdict(list)
    for mask, images in found.items():
        for image in images.paths if images.certain else ():
            masks[image].append(mask)
    ambiguous = {mask: tuple(sorted(images.paths)) for mask, images in found.items() if not images.certain}
    return Pairing({image: tuple(sorted(masks[image])) for image in sorted(masks)}, tuple(sorted(alone)), ambiguous)


def _by_own_name(path: str, pool: Pool) -> Images:
    """The images of a mask that lies beside them."""
    folder = pool.within.get(posixpath.dirname(path))
    stem = names.stem(path)
    if folder is None:
        return NONE
    return folder.find(stem) or (folder.case() if "" in names.bares(stem) else NONE)


def _by_folder(inside: dict[str, int], pool: Pool, found: dict[str, Images]) -> list[str]:
    """Fill `found` with the masks in folders of masks; return those without their image."""
    groups: dict[tuple[str, str], list[str]] = defaultdict(list)
    for path, i in inside.items():
        parts = path.split("/")
        groups["/".join(parts[:i]), parts[i]].append(path)
    alone: list[str] = []
    for (above, folder), masks in sorted(groups.items()):
        paired = _of_folder(above, folder, sorted(masks), pool)
        beside = any(map(names.says_image, pool.beside(above, folder)))
        if beside or 2 * len(paired) >= len(masks):
            found.update(paired)
            alone += [mask for mask in masks if mask not in paired]
    return alone


def _of_folder(above: str, folder: str, masks: Sequence[str], pool: Pool) -> dict[str, Images]:
    """The images of the masks in one folder, subfolder by subfolder."""
    places = [f"{above}/{sibling}".lstrip("/") for sibling in pool.beside(above, folder)] + [above]
    start = len(posixpath.join(above, folder)) + 1
    groups: dict[str, list[str]] = defaultdict(list)
    for mask in masks:
        groups[posixpath.dirname(mask)[start:]].append(mask)
    paired: dict[str, Images] = {}
    for rest, group in groups.items():
        there = [pool.within[where] for place in places if (where := f"{place}/{rest}".strip("/")) in pool.within]
        by_name = {mask: images for mask in group if (images := _among(names.stem(mask), there))}
        far = {mask: images for mask in group if (images := _further(mask, above, folder, pool))} if not by_name else {}
        paired |= by_name or far or _as_case(above, group, there)
    return paired


def _among(stem: str, there: Sequence[Folder]) -> Images:
    """The images of a mask in folders of which any may hold it."""
    found = [images for folder in there if (images := folder.find(stem))]
    if len(found) < 2:
        return found[0] if found else NONE
    return Images([path for images in found for path in images.paths], False)


def _further(mask: str, above: str, folder: str, pool: Pool) -> Images:
    """An image of just this name, anywhere below the folders beside."""
    stem, siblings = names.stem(mask), pool.beside(above, folder)
    for key in (stem, *names.bares(stem)):
        found = [path for sibling in siblings for path in pool.below[above, sibling].get(key, ())]
        if found:
            return Images(found, len(found) == 1)
    return NONE


def _as_case(above: str, group: Sequence[str], there: Sequence[Folder]) -> dict[str, Images]:
    """Masks of the one image that is there: several, or named after what they show, or it is named after its folder."""
    whole = [images for folder in there if (images := folder.case())]
    if len(whole) != 1 or not whole[0].certain:
        return {}
    stem, case = names.stem(whole[0].paths[0]), names.stem(above)
    sure = stem == case or names.is_plain_image(stem) or (bool(above) and len(group) > 1)
    sure = sure or all(names.is_plain_part(names.stem(mask)) for mask in group)
    return dict.fromkeys(group, whole[0]) if sure else {}
