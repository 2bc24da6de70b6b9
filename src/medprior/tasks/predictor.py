"""What the user takes home: encoder, head, calibration and pre-processing in one folder."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from medprior.errors import RunError
from medprior.files import make_folder, replace_file, write_json

SCHEMA = 1
TOLERANCE = 1.5


@dataclass(frozen=True)
class Preprocessing:
    """How pixels reach the encoder: the same at training and at prediction. `ct_window` is in HU."""

    size: int
    store_size: int
    channels: int
    spatial_dims: int
    modality: str | None
    ct_window: Sequence[float] = (-1000, 1000)


@dataclass(frozen=True)
class Familiarity:
    """How far a scan lies from those the predictor was made from.

    A Mahalanobis distance in feature space with a shrunk covariance (Lee et al. 2018, arXiv 1807.03888; Ledoit and
    Wolf 2004). `limit` is 1.5 times the 99th percentile over scans that did not shape the covariance.
    """

    mean: NDArray[np.float64]
    precision: NDArray[np.float64]
    limit: float

    def distances(self, features: NDArray[np.float32]) -> NDArray[np.float64]:
        """(N,) distances of features (N, D)."""
        off = features.astype(np.float64) - self.mean
        squared = np.einsum("nd,de,ne->n", off, self.precision, off)
        return np.asarray(np.sqrt(np.maximum(squared, 0)))


def learn_familiarity(features: NDArray[np.float32], seed: int = 0) -> Familiarity:
    """Shape from one half of the features (N, D), limit from the other half."""
    from sklearn.covariance import LedoitWolf

    order = np.random.default_rng(seed).permutation(len(features))
    half = max(2, len(order) // 2)
    shape = LedoitWolf().fit(features[order[:half]].astype(np.float64))
    familiar = Familiarity(shape.location_, shape.precision_, np.inf)
    limit = TOLERANCE * float(np.percentile(familiar.distances(features[order[half:]]), 99))
    return Familiarity(shape.location_, shape.precision_, limit)


@dataclass(frozen=True)
class Predictor:
    """A calibrated classifier on disk. `weight` (K, D) and `bias` (K,) act on pooled features."""

    kind: str
    names: tuple[str, ...]
    weight: NDArray[np.float64]
    bias: NDArray[np.float64]
    temperature: float
    preprocessing: Preprocessing
    familiarity: Familiarity
    origin: dict[str, object]

    def probabilities(self, features: NDArray[np.float32]) -> NDArray[np.float64]:
        """Calibrated (N, K) probabilities of features (N, D)."""
        from scipy.special import expit, softmax

        logits = (features.astype(np.float64) @ self.weight.T + self.bias) / self.temperature
        result: NDArray[np.float64] = expit(logits) if self.kind == "multilabel" else softmax(logits, axis=1)
        return result

    def save(self, folder: Path) -> None:
        """Write `predictor.json` and `head.npz` beside the encoder."""
        make_folder(folder)
        with replace_file(folder / "head.npz") as aside, aside.open("wb") as file:
            shape = self.familiarity
            np.savez(file, weight=self.weight, bias=self.bias, mean=shape.mean, precision=shape.precision)
        facts = {
            "schema": SCHEMA,
            "kind": self.kind,
            "names": self.names,
            "temperature": self.temperature,
            "familiarity_limit": self.familiarity.limit,
            "preprocessing": asdict(self.preprocessing),
            "origin": self.origin,
        }
        write_json(folder / "predictor.json", facts)

    @classmethod
    def load(cls, folder: Path) -> Predictor:
        """Read what `save` wrote.

        Raises:
            RunError: the folder holds no predictor, or a damaged one.
        """
        try:
            facts = json.loads((folder / "predictor.json").read_text(encoding="utf-8"))
            with np.load(folder / "head.npz", allow_pickle=False) as arrays:
                familiarity = Familiarity(arrays["mean"], arrays["precision"], float(facts["familiarity_limit"]))
                weight, bias = arrays["weight"], arrays["bias"]
            predictor = cls(
                kind=facts["kind"],
                names=tuple(facts["names"]),
                weight=weight,
                bias=bias,
                temperature=float(facts["temperature"]),
                preprocessing=Preprocessing(**facts["preprocessing"]),
                familiarity=familiarity,
                origin=facts["origin"],
            )
        except (OSError, EOFError, ValueError, KeyError, TypeError, AttributeError, BadZipFile):
            what = "this folder holds no predictor, or a damaged one"
            raise RunError(what, where=str(folder), do="Give the best/ folder of a finished run") from None
        if facts.get("schema") != SCHEMA:
            raise RunError(
                f"a predictor of another version ({facts.get('schema')})", where=str(folder), do="Make it anew"
            )
        return predictor
