"""Near-copies that the public sets hold and no README names: how many, how near, and what they cross.

    python benchmarks/duplicates/listing.py DATA --out benchmarks/duplicates [--sheets FOLDER]

Only counts are written. With --sheets the pairs are drawn side by side, to be looked at; that is never committed.
"""

from __future__ import annotations

import argparse
import csv
import json
from pathlib import Path

import numpy as np
import pandas as pd
from changes import flipped
from images import SETS, Named
from PIL import Image, ImageDraw

from medprior.data.duplicates.find import Duplicates, find_duplicates
from medprior.data.duplicates.leaks import leaks, summary
from medprior.data.duplicates.likeness import difference_hash, near_pairs, normalised
from medprior.data.facts import facts_of

TOGETHER = {
    "covid-ct with ct-slices": ("covid-ct", "ct-slices"),
    "brain": ("brain",),
    "nih": ("nih",),
    "pneumonia": ("pneumonia",),
    "chest": ("chest",),
    "chase": ("chase",),
    "hippocampus": ("hippocampus",),
    "adrenal": ("adrenal",),
}
SIDE, PER_ROW = 150, 4


def labels_of(data: Path, name: str) -> dict[str, tuple[str, str]]:
    """(split, label) of the images of a set by name, where it has a table of them."""
    file = {"covid-ct": "covid-ct/labels.csv", "brain": "brain-tumor-mri/labels.csv"}.get(name)
    if file is None:
        return {}
    with (data / file).open(encoding="utf-8") as lines:
        return {Path(row["path"]).name: (row["split"], row["label"]) for row in csv.DictReader(lines)}


def table_of(data: Path, names: tuple[str, ...]) -> tuple[pd.DataFrame, list[Named]]:
    rows, images = [], []
    for name in names:
        known = labels_of(data, name)
        for image in SETS[name](data):
            facts = facts_of(np.ascontiguousarray(image[2])[None])
            split, label = known.get(image[0], (image[0].split()[0] if " " in image[0] else "", ""))
            rows.append((facts.hash, facts.thumb.ravel(), image[1], split, label, bool(label), name))
            images.append(image)
    columns = ["hash", "thumb", "patient", "split", "label", "labelled", "set"]
    return pd.DataFrame(rows, columns=columns), images


def counted(table: pd.DataFrame, found: Duplicates) -> dict[str, object]:
    label = table["label"].where(table["label"] != "")
    targets = pd.factorize(label)[0].astype(float)
    targets[label.isna().to_numpy()] = np.nan
    said = leaks(table, found, targets)
    near = found.pairs[found.pairs["kind"] == "near"]
    one, other = (table["set"].to_numpy()[near[side]] for side in ("row_a", "row_b"))
    return {
        "images": len(table),
        "exact": int((found.pairs["kind"] == "exact").sum()),
        "near": len(near),
        "near across sets": int((one != other).sum()),
        "largest group": max((len(rows) for rows in found.clusters()), default=0),
        "distances": np.histogram(near["distance"], [0, 0.02, 0.05, 0.1, 0.2])[0].tolist(),
        "copies across splits": sum(leak.kind == "split" for leak in said),
        "contradicting labels": sum(leak.kind == "labels" for leak in said),
        "patients across splits": sum(leak.kind == "patient" for leak in said),
        "said": summary(said, found),
    }


def searched_with_crops(images: list[Named], names: list[str]) -> int:
    """Labelled covid-ct slices that are near some other set's slice after a crop of up to a tenth or a flip."""
    first = [pixels for (_, _, pixels), name in zip(images, names, strict=True) if name == "covid-ct"]
    second = [pixels for (_, _, pixels), name in zip(images, names, strict=True) if name != "covid-ct"]
    hits: set[int] = set()
    for changed, fixed, swapped in ((first, second, False), (second, first, True)):
        still = np.stack([facts_of(pixels[None]).thumb for pixels in fixed])
        for top in (0.0, 0.03, 0.06, 0.1):
            for left in (0.0, 0.03, 0.06, 0.1):
                for mirrored in (False, True):
                    cut = [_cut(pixels, top, left, mirrored) for pixels in changed]
                    unit = normalised(np.concatenate([np.stack([facts_of(p[None]).thumb for p in cut]), still]))
                    pairs = near_pairs(difference_hash(unit, still.shape[1:]), unit)
                    across = (pairs.first < len(cut)) & (pairs.second >= len(cut))
                    side = pairs.second[across] - len(cut) if swapped else pairs.first[across]
                    hits.update(side.tolist())
    return len(hits)


def _cut(pixels: np.ndarray, top: float, left: float, mirrored: bool) -> np.ndarray:
    high, wide = round(pixels.shape[0] * top), round(pixels.shape[1] * left)
    cut = pixels[high : pixels.shape[0] - high, wide : pixels.shape[1] - wide]
    return np.ascontiguousarray(flipped(cut, np.random.default_rng(0)) if mirrored else cut)


def sheet(file: Path, images: list[Named], pairs: pd.DataFrame, most: int = 32) -> None:
    """The pairs side by side, an even choice from the nearest to the farthest."""
    chosen = pairs.sort_values("distance").iloc[np.unique(np.linspace(0, len(pairs) - 1, most).astype(int))]
    high = SIDE + 14
    page = Image.new("L", (PER_ROW * 2 * SIDE, -(-len(chosen) // PER_ROW) * high))
    draw = ImageDraw.Draw(page)
    for place, pair in enumerate(chosen.itertuples(index=False)):
        for side, row in enumerate((pair.row_a, pair.row_b)):
            name, _, pixels = images[row]
            plane = pixels if pixels.ndim == 2 else pixels[..., pixels.shape[-1] // 2]
            plane = ((plane - plane.min()) / max(float(np.ptp(plane)), 1e-9) * 255).astype(np.uint8)
            at = ((place % PER_ROW * 2 + side) * SIDE, place // PER_ROW * high)
            draw.text(at, f"{pair.distance:.2f} {pair.correlation:.3f} {name[-13:]}", fill=255)
            page.paste(Image.fromarray(plane).resize((SIDE - 4, SIDE - 4)), (at[0], at[1] + 13))
    page.save(file)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    parser.add_argument("--sheets", type=Path)
    chosen = parser.parse_args()
    counts = {}
    for title, names in TOGETHER.items():
        table, images = table_of(chosen.data, names)
        found = find_duplicates(table)
        counts[title] = counted(table, found)
        if "covid-ct" in names:
            counts[title]["covid-ct slices near a ct-slice after crops and flips"] = searched_with_crops(
                images, table["set"].tolist()
            )
        near = found.pairs[found.pairs["kind"] == "near"]
        if chosen.sheets and len(near):
            sheet(chosen.sheets / f"{names[0]}.png", images, near)
        print(title, counts[title], flush=True)
    (chosen.out / "listing.json").write_text(json.dumps(counts, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
