"""What the search for near-copies costs: processor seconds and peak memory for many images that are much alike.

OMP_NUM_THREADS=1 python benchmarks/duplicates/search.py 100000
"""

from __future__ import annotations

import argparse
import json
import resource
import time

import numpy as np
from scipy.ndimage import gaussian_filter

from medprior.data.duplicates.likeness import difference_hash, near_pairs, normalised
from medprior.data.facts import THUMB_2D


def thumbs(count: int, rng: np.random.Generator) -> np.ndarray:
    """Thumbs that share most of what they show, as chest X-rays do (median correlation 0.7), and 1% noisy copies."""
    common = gaussian_filter(rng.normal(size=THUMB_2D), 3)
    own = gaussian_filter(rng.normal(size=(count, *THUMB_2D)).astype(np.float32), (0, 2, 2))
    made = 100 + 30 * (common / common.std() + 0.7 * own / own.std()) + rng.normal(size=own.shape)
    copies = rng.choice(count, count // 100, replace=False)
    made[copies] = made[(copies + 1) % count] + rng.normal(size=(len(copies), *THUMB_2D))
    return made.astype(np.float32)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("count", type=int)
    count = parser.parse_args().count
    made = thumbs(count, np.random.default_rng(0))
    begun = time.process_time()
    unit = normalised(made)
    bits = difference_hash(unit, THUMB_2D)
    hashed = time.process_time()
    found = near_pairs(bits, unit)
    said = {
        "images": count,
        "pairs": len(found),
        "hash, s": round(hashed - begun, 1),
        "search, s": round(time.process_time() - hashed, 1),
        "peak memory, MB": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
    }
    print(json.dumps(said))


if __name__ == "__main__":
    main()
