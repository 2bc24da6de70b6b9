"""What each part of a data card needs; None leaves the part out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from markupsafe import Markup

from medprior.data.card.content import Card, Crossing, Intensity, Kind, Labels, Pair
from medprior.data.catalog import Catalog
from medprior.data.intensity import IntensityPlan
from medprior.report.card import figures, words
from medprior.report.card.planes import Plane, box_classes, legend, planes

SHEETS = 12
PAIRS, EXACT_PAIRS = 8, 2
MOST_TOGETHER = 30
MOST_LABELS = 60

Context = dict[str, Any] | None


@dataclass(frozen=True)
class Show:
    """What a card is drawn from: its numbers, and the scans for its pictures, `side` pixels wide or high at most."""

    card: Card
    catalog: Catalog
    plan: IntensityPlan
    side: int
    kept: dict[tuple[int, bool], list[Plane]] = field(default_factory=dict)

    def planes(self, row: int, *, marked: bool = True) -> list[Plane]:
        """The pictures of a row; none where text may be burnt into it."""
        if self.catalog.table["burnt"].iat[row] is not None:
            return []
        if (row, marked) not in self.kept:
            self.kept[row, marked] = planes(self.catalog, row, self.plan, self.side, self.classes if marked else None)
        return self.kept[row, marked]

    @cached_property
    def classes(self) -> list[str]:
        """The classes of boxes, in the order of their colours."""
        return box_classes(self.catalog)

    @cached_property
    def label_of(self) -> list[str]:
        """What each row is labelled as, "" where unknown."""
        return _labels_by_row(self.catalog)


@dataclass(frozen=True)
class Tile:
    """A scan on a contact sheet."""

    caption: str
    alt: str
    planes: list[Plane]


def leaks(show: Show) -> Context:
    card = show.card
    groups = [
        (words.LEAKS[kind], count, [(one, _apart(one)) for one in card.leaks.found if one.kind == kind])
        for kind, count in card.leaks.counts.items()
    ]
    pairs = [pair for pair in card.copies.pairs if pair.across]
    return {
        "groups": groups,
        "splits": bool(card.splits),
        "pairs": _pairs(show, pairs, PAIRS),
        "repaired": card.leaks.repaired,
    }


def kinds(show: Show) -> Context:
    shown = show.card.kinds[:SHEETS]
    colours = legend(show.catalog, show.classes)
    more = len(show.card.kinds) - len(shown)
    return {"kinds": [_kind(show, kind) for kind in shown], "more": more, "legend": colours}


def labels(show: Show) -> Context:
    said = show.card.labels
    if not said.kind:
        return None
    splits = list(dict.fromkeys(name for one in said.labels for name in one.splits))
    most = max((one.images for one in said.labels), default=0) or 1
    return {
        "said": said,
        "labels": [(one, one.images / most) for one in said.labels[:MOST_LABELS]],
        "more": len(said.labels) - MOST_LABELS,
        "splits": [(name, name or "no split") for name in splits] if splits != [""] else [],
        "together": _together(said),
    }


def patients(show: Show) -> Context:
    who, card = show.card.patients, show.card
    most = max(who.scans_each.values(), default=0) or 1
    each = [(name, count, count / most) for name, count in who.scans_each.items()]
    return {"who": who, "each": each, "splits": card.splits, "scans": card.scans}


def headers(show: Show) -> Context:
    return {"facts": show.card.headers} if show.card.headers else None


def beside(show: Show) -> Context:
    there = show.card.beside
    if not (there.masks or there.boxed or there.reports):
        return None
    most = max(there.boxes.values(), default=0) or 1
    boxes = [(name, count, there.boxed_images[name], count / most) for name, count in there.boxes.items()]
    return {"there": there, "scans": show.card.scans, "boxes": boxes[:MOST_LABELS], "images": show.card.images}


def copies(show: Show) -> Context:
    said = show.card.copies
    if not said.groups:
        return None
    most = max(said.distances.values(), default=0) or 1
    steps = [(name, count, count / most) for name, count in said.distances.items()]
    return {
        "said": said,
        "steps": steps,
        "pairs": _pairs(show, [pair for pair in said.pairs if not pair.across], EXACT_PAIRS),
    }


def problems(show: Show) -> Context:
    card = show.card
    if not card.problems:
        return None
    counts = [(words.PROBLEMS.get(kind, kind), count) for kind, count in card.problem_counts.items()]
    rows = [(words.PROBLEMS.get(one.kind, one.kind), one, one.count - len(one.numbers)) for one in card.problems]
    return {"counts": counts, "rows": rows[:MOST_LABELS], "more": len(rows) - MOST_LABELS}


def plan(show: Show) -> Context:
    return {"lines": show.card.plan}


def figures_of(card: Card) -> list[tuple[str, str]]:
    """The few numbers at the top: (number, what it counts)."""
    who = card.patients
    there = [
        (card.images, "images" if card.images != 1 else "image"),
        (card.volumes, "volumes" if card.volumes != 1 else "volume"),
        (who.known, "patients" if who.known != 1 else "patient"),
        (card.labels.labelled, "labelled"),
        (card.beside.masks, "with a mask"),
        (card.beside.boxed, "with boxes"),
        (card.beside.reports, "with a report"),
    ]
    unknown = [("?", "patients")] if not who.known else []
    said = [(f"{count:,}", name) for count, name in there if count]
    return [*said, *unknown]


def _kind(show: Show, kind: Kind) -> Mapping[str, Any]:
    tiles = [_tile(show, row, kind) for row in kind.samples]
    return {
        "kind": kind,
        "name": words.kind_name(kind),
        "note": words.kind_note(kind),
        "amounts": words.amounts(kind),
        "facts": list(_facts(kind)),
        "histograms": [_histogram(one) for one in kind.intensities],
        "images": [tile for tile in tiles if len(tile.planes) == 1],
        "volumes": [tile for tile in tiles if len(tile.planes) > 1],
        "failed": sum(not tile.planes for tile in tiles),
    }


def _histogram(values: Intensity) -> tuple[str, Intensity, Markup, str]:
    title = words.TREATMENTS.get(values.treatment, values.treatment)
    return title, values, figures.histogram(values), words.window_text(values)


def _facts(kind: Kind) -> Iterator[tuple[str, str]]:
    both = len(kind.sizes) > 1
    for sizes in kind.sizes:
        which = f" of {'volumes' if sizes.dims == 3 else 'images'}" if both else ""
        yield f"Size{which}", words.sizes_text(sizes)
        yield f"Spacing{which}", words.spacing_text(sizes)
    yield "Channels", words.channels_text(kind)
    yield "Values", words.shares(kind.types)
    yield "Format", words.shares(kind.readers, words.READERS)


def _tile(show: Show, row: int, kind: Kind) -> Tile:
    label = show.label_of[row]
    name = "" if words.kind_note(kind) or not kind.modality else f", {words.kind_name(kind)}"
    return Tile(_joined(f"row {row:,}", label), f"Row {row:,}{name}{', ' + label if label else ''}", show.planes(row))


def _pairs(show: Show, pairs: Sequence[Pair], exact: int) -> list[tuple[Pair, list[Tile], str]]:
    """Near pairs before the first `exact` of those that look the same anyway; those that can be drawn."""
    near = [pair for pair in pairs if pair.kind == "near"]
    some = [*near, *[pair for pair in pairs if pair.kind == "exact"][:exact]]
    splits = show.catalog.table["split"].tolist()
    drawn: list[tuple[Pair, list[Tile], str]] = []
    for pair in some:
        tiles = [
            Tile(_joined(f"row {row:,}", splits[row], show.label_of[row]), f"Row {row:,}", found[:1])
            for row in pair.rows
            if (found := show.planes(row, marked=False))
        ]
        said = "the same pixels" if pair.kind == "exact" else f"distance {words.distance_text(pair.distance)}"
        drawn += [(pair, tiles, said)] if len(tiles) == 2 else []
        if len(drawn) == PAIRS:
            break
    return drawn


def _apart(one: Crossing) -> str:
    """How far copies are from each other; "" for patients."""
    if one.distance is None:
        return ""
    return "same pixels" if one.same else words.distance_text(one.distance)


def _joined(*parts: str) -> str:
    return " · ".join(part for part in parts if part)


def _together(said: Labels) -> list[tuple[str, list[tuple[int, float]]]]:
    """(label, its images with each other label and their share) in the order of the labels; the first of many."""
    rows = said.together[:MOST_TOGETHER]
    found = []
    for i, row in enumerate(rows):
        own = row[i] or 1
        found.append((said.labels[i].name, [(count, count / own) for count in row[:MOST_TOGETHER]]))
    return found


def _labels_by_row(catalog: Catalog) -> list[str]:
    spec = catalog.labels
    if spec is None:
        return [""] * len(catalog)
    targets = catalog.targets()
    if targets.ndim == 1:
        return ["" if np.isnan(value) else spec.names[int(value)] for value in targets]
    named = [[name for name, value in zip(spec.names, row, strict=True) if value == 1] for row in targets]
    unknown = np.asarray(np.isnan(targets).all(axis=1)).tolist()
    return ["" if empty else _some(names) for names, empty in zip(named, unknown, strict=True)]


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:2]) + (f" +{len(names) - 2}" if len(names) > 2 else "") if names else "none"
