"""What a reader must know first: what to mend before training, and what else is worth knowing."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from medprior.data.card.content import Copies, Counts, Finding, Kind, Labels, Leaks, Part, Patients
from medprior.data.catalog import PATIENTS_UNKNOWN

FEW_PATIENTS = 10
MOST_NAMED = 2
"""Modalities that the headline names."""
_SPLIT_APART = re.compile(r"stands? in more than one split")
_REPAIRED = re.compile(r"^([\d,]+) patients? stands? in more than one split: ([\d,]+) images?\b")
_BOX_LEFT_OUT = re.compile(
    r"\b(has no area|lies outside the image|ends before it begins|has no four numbers|belongs to no image)\b"
    r".*: left out$",
    re.DOTALL,
)


def headline(
    scans: tuple[int, int], kinds: Sequence[Kind], patients: Patients, found: Sequence[Finding], doubts: int
) -> str:
    """The whole in one sentence.

    Args:
        scans: how many images, how many volumes.
        doubts: about files that are used.
    """
    mend = sum(one.level == "mend" for one in found)
    end = f"{counted(mend, 'thing')} to mend before training" if mend else "nothing was found that needs mending"
    if doubts and not mend:
        end = f"nothing to mend, {counted(doubts, 'doubt')} to know"
    return f"{_scans(scans, kinds)}, {_patients(patients)}; {end}."


def findings(
    kinds: Sequence[Kind],
    patients: Patients,
    labels: Labels,
    splits: Sequence[Part],
    copies: Copies,
    leaks: Leaks,
    problems: Counts,
    torn: int,
    unboxed: int,
    warnings: Sequence[str],
) -> tuple[Finding, ...]:
    """What to mend, the worst first, then what to know.

    Args:
        problems: remarks by kind.
        torn: tables beside the scans whose split parts patients.
        unboxed: boxes that could not be used.
        warnings: of the catalog.
    """
    said = [
        *_leaks(leaks),
        *_repaired(leaks),
        *_torn(torn, leaks),
        *_people(patients, labels, splits),
        *_unreadable(problems),
        *_scarce(labels),
        *_copies(copies, leaks),
        *_kinds(kinds),
        *_remarks(problems, torn),
        *_unboxed(unboxed),
        *(Finding("know", said) for said in warnings if not _is_said_here(said)),
    ]
    return tuple(sorted(said, key=lambda one: one.level != "mend"))


def counted(count: int, word: str, many: str = "") -> str:
    """ "1 image", "3,848 images"."""
    return f"{count:,} {word if count == 1 else many or word + 's'}"


def torn_tables(reasons: Iterable[str]) -> int:
    """How many remarks say that a published split parts patients."""
    return sum(bool(_SPLIT_APART.search(reason)) for reason in reasons)


def boxes_left_out(reasons: Iterable[str]) -> int:
    """How many remarks say of one box that it cannot be used."""
    return sum(bool(_BOX_LEFT_OUT.search(reason)) for reason in reasons)


def repaired(warnings: Iterable[str]) -> tuple[str, ...]:
    """What was done where the split in use parted patients, told from the warnings of joining its table."""
    found = [match.groups() for warning in warnings if (match := _REPAIRED.match(warning))]
    return tuple(_repair(int(people.replace(",", "")), int(images.replace(",", ""))) for people, images in found)


def _repair(people: int, images: int) -> str:
    were = f"{counted(images, 'image')} {'was' if images == 1 else 'were'}"
    return (
        f"{counted(people, 'patient')} stood in two splits: their {were} dropped from the earlier one; the test set is "
        "unchanged."
    )


def _scans(scans: tuple[int, int], kinds: Sequence[Kind]) -> str:
    words = [counted(count, word) for count, word in zip(scans, ("image", "volume"), strict=True) if count]
    both = " and ".join(words)
    names = {kind.modality or kind.hint for kind in kinds}
    if len(names) > MOST_NAMED or (len(names) > 1 and not all(kind.modality for kind in kinds)):
        return f"{both} of {len(names)} kinds"
    if names == {""}:
        return f"{both} of unknown modality"
    said = " and ".join(sorted(names))
    return f"{both} of {said}" if kinds[0].modality else f"{both}, {said} by their folders' names"


def _patients(patients: Patients) -> str:
    if not patients.known:
        return "patients unknown"
    rest = f" ({counted(patients.nameless, 'scan')} of unknown ones)" if patients.nameless else ""
    return f"{counted(patients.known, 'patient')}{rest}"


def _leaks(leaks: Leaks) -> Iterator[Finding]:
    counts, scans = leaks.counts, leaks.scans
    if count := counts.get("split"):
        said = f"{counted(count, 'group')} of copies {_stand(count)} in more than one of train, val and test"
        yield _mend(
            said, scans["split"], "Train with medprior run --dedupe, which leaves them out of training.", "leaks"
        )
    if count := counts.get("patient"):
        said = f"{counted(count, 'patient')} {_stand(count)} in more than one of train, val and test"
        yield _mend(said, scans["patient"], "Give each patient one split, or scores will be too high.", "leaks")
    if count := counts.get("labels"):
        said = (
            f"{counted(count, 'group')} of copies {'has' if count == 1 else 'have'} labels that contradict each other"
        )
        yield _mend(said, scans["labels"], "Look at their pictures, and mend the labels.", "leaks")
    if count := counts.get("pool"):
        said = f"{counted(count, 'group')} of copies {'has' if count == 1 else 'have'} images with and without a label"
        do = "An encoder may have seen copies of test images: medprior run --dedupe leaves them out."
        yield Finding("know", f"{said} ({counted(scans['pool'], 'image')}).", do, "leaks")


def _mend(said: str, scans: int, do: str, part: str) -> Finding:
    return Finding("mend", f"{said} ({counted(scans, 'image')}).", do, part)


def _stand(count: int) -> str:
    return "stands" if count == 1 else "stand"


def _repaired(leaks: Leaks) -> Iterator[Finding]:
    for said in leaks.repaired:
        yield Finding("mend", said, "Give each patient one split in the table, to learn from all images.", "leaks")


def _torn(torn: int, leaks: Leaks) -> Iterator[Finding]:
    if not torn:
        return
    tables = "A table" if torn == 1 else f"{torn:,} tables"
    said = f"{tables} beside the scans {'holds' if torn == 1 else 'hold'} a split that parts patients."
    if leaks.repaired:
        yield Finding("know", said, "The split in use was repaired as said above.", "problems")
    else:
        yield Finding("mend", said, "Do not use that column as a split; split by patient.", "problems")


def _people(patients: Patients, labels: Labels, splits: Sequence[Part]) -> Iterator[Finding]:
    if not patients.nameless:
        return
    who = "Patients are unknown" if not patients.known else f"{counted(patients.nameless, 'scan')} name no patient"
    said = f"{who}: images of one person may stand on both sides of a split, and scores may be too high."
    do = "Name the column of a table with --patient."
    yield Finding("mend" if labels.kind or splits else "know", said, do, "patients")


def _unreadable(problems: Counts) -> Iterator[Finding]:
    if count := problems.get("unreadable", 0):
        said = f"{counted(count, 'file')} cannot be read and {'is' if count == 1 else 'are'} left out."
        yield Finding("mend", said, "The reasons stand below; which files they are stands in problems.csv.", "problems")


def _scarce(labels: Labels) -> Iterator[Finding]:
    few = [f"{one.name} ({one.patients})" for one in labels.labels if one.patients < FEW_PATIENTS]
    if few:
        said = f"Fewer than {FEW_PATIENTS} patients have: {', '.join(few)}."
        yield Finding("know", said, "Scores of so few say little.", "labels")


def _copies(copies: Copies, leaks: Leaks) -> Iterator[Finding]:
    if copies.scans:
        groups = counted(copies.groups, "group")
        said = f"{counted(copies.scans, 'scan')} are copies or near-copies of others, in {groups}"
        done = "" if leaks.counts.get("split") else "; none crosses a published split"
        yield Finding("know", f"{said}{done}.", f"{copies.spare:,} of them could be spared.", "copies")


def _kinds(kinds: Sequence[Kind]) -> Iterator[Finding]:
    if sum(kind.images for kind in kinds) and sum(kind.volumes for kind in kinds):
        yield Finding("know", "Images and volumes lie together.", "Train on one of them at a time.", "kinds")
    if burnt := sum(kind.burnt for kind in kinds):
        said = f"{counted(burnt, 'scan')} may have text burnt into the pixels, names perhaps"
        yield Finding(
            "know",
            f"{said}.",
            f"None of those {burnt:,} is drawn here; others may still carry text: look before you share them.",
            "kinds",
        )
    volumes = [size for kind in kinds for size in kind.sizes if size.dims == 3]
    if silent := sum(size.scans - size.spaced for size in volumes):
        said = f"{counted(silent, 'volume')} {'does' if silent == 1 else 'do'} not say the size of a voxel in mm."
        yield Finding("know", said, "", "kinds")


def _is_said_here(warning: str) -> bool:
    """Whether a warning of the catalog is said by a finding of its own, or is about this run and not about the data."""
    if _REPAIRED.match(warning):
        return True
    return warning == PATIENTS_UNKNOWN or "burnt into" in warning or warning.startswith("The index cache")


def _unboxed(unboxed: int) -> Iterator[Finding]:
    if unboxed:
        said = f"{counted(unboxed, 'box', 'boxes')} {'was' if unboxed == 1 else 'were'} left out."
        yield Finding("know", said, "The reasons stand below.", "problems")


def _remarks(problems: Counts, torn: int) -> Iterator[Finding]:
    if doubts := problems.get("doubt", 0) - torn:
        yield Finding("know", f"{counted(doubts, 'doubt')} about files that are used.", "", "problems")
    apart, empty = problems.get("apart", 0), problems.get("no image", 0)
    if apart or empty:
        words = [counted(apart, "image was set apart", "images were set apart")] if apart else []
        words += [counted(empty, "file holds no image", "files hold no image")] if empty else []
        yield Finding("know", f"{', '.join(words)}.", "", "problems")
