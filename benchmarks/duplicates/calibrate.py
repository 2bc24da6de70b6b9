"""How often a changed copy is recognised, and how often two different images are taken for copies.

    python benchmarks/duplicates/calibrate.py DATA --out benchmarks/duplicates

DATA holds the public sets that `images.py` reads. Limits are scaled as a whole; the scale is chosen on the fitting
sets, and the figures to quote are those of the other sets.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from changes import PLANES, VOLUMES
from images import SETS
from scipy.stats import beta, chi2

from medprior.data.duplicates.likeness import LIMITS, Pairs, difference_hash, distances, near, near_pairs, normalised
from medprior.data.facts import THUMB_2D, THUMB_3D
from medprior.data.store.letterbox import resize

FIT = ("nih", "brain", "covid-ct", "chase", "hippocampus")
JUDGED = ("ct-slices", "pneumonia", "chest", "adrenal")
SCALES = (0.4, 0.6, 0.8, 1.0, 1.2, 1.6, 2.0, 3.0)
OF_A_SET = 200  # images that are changed, at most
LOOSEST = tuple((farthest * max(SCALES), least) for farthest, least in LIMITS)


@dataclass(frozen=True)
class Measured:
    """One set: its hashes, its changed copies by name of the change, and its pairs of different images."""

    name: str
    part: str
    rows: int
    patients: np.ndarray
    changed: dict[str, tuple[np.ndarray, np.ndarray]]
    pairs: Pairs

    @property
    def known(self) -> bool:
        """Whether patients are known, so that pairs of two of them are surely no copies, where nobody copied."""
        return bool((self.patients != "").all())

    def strangers(self) -> tuple[np.ndarray, int]:
        """Which of the pairs are of two patients (all where they are unknown), and how many such pairs there are."""
        if not self.known:
            return np.ones(len(self.pairs), bool), self.rows * (self.rows - 1) // 2
        _, sizes = np.unique(self.patients, return_counts=True)
        together = int((sizes * (sizes - 1) // 2).sum())
        which = self.patients[self.pairs.first] != self.patients[self.pairs.second]
        return which, self.rows * (self.rows - 1) // 2 - together


def thumb(pixels: np.ndarray) -> np.ndarray:
    shape = THUMB_2D if pixels.ndim == 2 else THUMB_3D
    return resize(np.ascontiguousarray(pixels)[None].astype(np.float32), shape)[0]


def hashed(thumbs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    unit = normalised(thumbs)
    return difference_hash(unit, thumbs.shape[1:]), unit


def measure(data: Path, name: str, rng: np.random.Generator) -> Measured:
    images = list(SETS[name](data))
    bits, unit = hashed(np.stack([thumb(pixels) for _, _, pixels in images]))
    chosen = np.sort(rng.choice(len(images), min(OF_A_SET, len(images)), replace=False))
    changed = {}
    for change, apply in (PLANES if images[0][2].ndim == 2 else VOLUMES).items():
        others, units = hashed(np.stack([thumb(apply(images[row][2], rng)) for row in chosen]))
        changed[change] = (distances(bits[chosen], others), np.einsum("np,np->n", unit[chosen], units))
    patients = np.array([patient for _, patient, _ in images])
    part = "fit" if name in FIT else "judged"
    return Measured(name, part, len(images), patients, changed, near_pairs(bits, unit, LOOSEST))


def scaled(scale: float) -> tuple[tuple[float, float], ...]:
    return tuple((farthest * scale, least) for farthest, least in LIMITS)


def recall_rows(sets: list[Measured]) -> Iterator[dict[str, object]]:
    """Share of changed copies that are found, with Clopper and Pearson's interval."""
    for one in sets:
        for change, (apart, alike) in one.changed.items():
            for scale in SCALES:
                found, count = int(near(apart, alike, scaled(scale)).sum()), len(apart)
                low = beta.ppf(0.025, found, count - found + 1) if found else 0.0
                high = beta.ppf(0.975, found + 1, count - found) if found < count else 1.0
                yield {
                    "set": one.name,
                    "part": one.part,
                    "change": change,
                    "scale": scale,
                    "images": count,
                    "found": found,
                    "recall": round(found / count, 4),
                    "low": round(float(low), 4),
                    "high": round(float(high), 4),
                }


def pair_rows(sets: list[Measured]) -> Iterator[dict[str, object]]:
    """Pairs of unchanged images that are taken for copies, per million pairs, with Garwood's interval."""
    for one in sets:
        which, count = one.strangers()
        for scale in SCALES:
            kept = near(one.pairs.distance, one.pairs.correlation, scaled(scale)) & which
            found, exact = int(kept.sum()), int((kept & (one.pairs.correlation > 1 - 1e-6)).sum())
            low = chi2.ppf(0.025, 2 * found) / 2 if found else 0.0
            high = chi2.ppf(0.975, 2 * found + 2) / 2
            yield {
                "set": one.name,
                "part": one.part,
                "patients": "known" if one.known else "unknown",
                "scale": scale,
                "pairs": count,
                "found": found,
                "of which thumbs equal": exact,
                "per million": round(found / count * 1e6, 3),
                "low": round(float(low) / count * 1e6, 3),
                "high": round(float(high) / count * 1e6, 3),
            }


def write(file: Path, rows: list[dict[str, object]]) -> None:
    with file.open("w", newline="", encoding="utf-8") as lines:
        writer = csv.DictWriter(lines, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    sets = []
    for number, name in enumerate((*FIT, *JUDGED)):
        sets.append(measure(chosen.data, name, np.random.default_rng([chosen.seed, number])))
        print(f"{name}: {sets[-1].rows:,} images", flush=True)
    write(chosen.out / "recall.csv", list(recall_rows(sets)))
    write(chosen.out / "pairs.csv", list(pair_rows(sets)))


if __name__ == "__main__":
    main()
