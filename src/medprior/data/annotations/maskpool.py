"""Images by folder and by what their names may mean, for the masks that look for them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from medprior.data.annotations import masknames as names

_MOST_OF_ONE_CASE = 8
_MOST_BESIDE = 64


@dataclass(frozen=True)
class Images:
    """The images a mask may belong to; to all of them when `certain`."""

    paths: list[str]
    certain: bool

    def __bool__(self) -> bool:
        return bool(self.paths)


NONE = Images([], False)


@dataclass
class Folder:
    """Images of one folder by what their names may mean."""

    exact: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    shared: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    worded: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    paths: list[str] = field(default_factory=list)

    def add(self, path: str) -> None:
        stem = names.stem(path)
        self.paths.append(path)
        self.exact[stem].append(path)
        for table, key in ((self.shared, names.shared_name(stem)), (self.worded, names.image_name(stem))):
            if key:
                table[key].append(path)

    def find(self, stem: str) -> Images:
        """The images that a mask named `stem` belongs to."""
        keys = [key for key in (stem, *names.bares(stem)) if key]
        for table in (self.exact, self.shared, self.worded):
            for key in keys:
                if found := table.get(key):
                    return Images(found, len(found) == 1 or table is self.shared)
        for shorter in (short for key in keys for short in names.without_parts(key)):
            if found := self.exact.get(shorter):
                return Images(found, len(found) == 1)
            if found := self.shared.get(shorter):
                return Images(found, True)
        return NONE

    def case(self) -> Images:
        """The images of a folder that holds one examination, for masks whose names do not say which."""
        if not self.paths or len(self.paths) > _MOST_OF_ONE_CASE:
            return NONE
        stems = {path: names.stem(path) for path in self.paths}
        if len(stems) == 1 or all(stem in names.SEQUENCES or names.shared_name(stem) for stem in stems.values()):
            return Images(self.paths, True)
        plain = [path for path, stem in stems.items() if names.is_plain_image(stem)]
        return Images(plain, True) if len(plain) == 1 else Images(self.paths, False)


@dataclass
class Subfolders:
    """The subfolders of a folder that hold images: those whose name says so, others, and both by what else they say."""

    said: dict[str, None] = field(default_factory=dict)
    others: dict[str, None] = field(default_factory=dict)
    alike: dict[tuple[bool, frozenset[str]], dict[str, None]] = field(default_factory=lambda: defaultdict(dict))

    def add(self, child: str) -> None:
        said = names.says_image(child)
        if said or not names.says_mask(child):
            (self.said if said else self.others)[child] = None
            self.alike[said, names.tail(child)][child] = None

    def beside(self, folder: str) -> list[str]:
        """Those that may hold the images of the masks in `folder`; none where that could be very many."""
        tail = names.tail(folder)
        for some in (self.alike.get((True, tail)), self.said, self.alike.get((False, tail)), self.others):
            if some and len(some) > _MOST_BESIDE:
                return []
            if some and (agreeing := [child for child in some if names.agree(folder, child)]):
                return sorted(agreeing)
        return []


class Pool:
    """Images by folder."""

    def __init__(self, paths: Iterable[str]) -> None:
        self.within: dict[str, Folder] = defaultdict(Folder)
        self.below: dict[tuple[str, str], dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
        self.children: dict[str, Subfolders] = defaultdict(Subfolders)
        self.add(paths)

    def add(self, paths: Iterable[str]) -> None:
        """More images; those of one folder keep the order of their paths."""
        for path in sorted(paths):
            parts = path.split("/")
            self.within["/".join(parts[:-1])].add(path)
            for i in range(len(parts) - 1):
                above = "/".join(parts[:i])
                if (above, parts[i]) not in self.below:
                    self.children[above].add(parts[i])
                self.below[above, parts[i]][names.stem(path)].append(path)

    def beside(self, above: str, folder: str) -> list[str]:
        """The folders in `above` that may hold the images of the masks in its subfolder `folder`."""
        return self.children[above].beside(folder) if above in self.children else []
