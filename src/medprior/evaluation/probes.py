"""What a frozen encoder knows: logistic regression on its features, and the temperature of a set of logits.

The probe is one weight matrix under an L2 penalty whose strength is chosen by cross-validation over patients inside the
labels it is given. All folds and labels are fitted together as columns of one matrix, so that a fit is a few large
products, and each strength starts from the solution of the stronger one before it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize, minimize_scalar
from scipy.special import expit, log_softmax, softmax

from medprior.errors import LabelError
from medprior.evaluation.metrics import Kind, one_versus_rest

Array = NDArray[Any]
STRENGTHS = (1.0, 1e-1, 1e-2, 1e-3, 1e-4, 1e-5)
"""L2 penalties tried, strongest first, for features standardised and divided by the root of their number."""
_WITHOUT_FOLDS = 1e-1


@dataclass(frozen=True)
class Probe:
    """A fitted linear probe: `predict_proba(features)` with `weight` (K, D) and `bias` (K,) on the raw features.

    `strength` is the L2 penalty chosen, `cv_scores` the cross-validated class-balanced log loss of those of `STRENGTHS`
    that were tried (none where too few patients allow no folds). `out_of_fold` (N, K) are the probabilities of the
    training images from fits that had not seen their patient (NaN rows without folds). `prior` (K,) holds the constant
    probability of a label that has one class only, NaN for all others.
    """

    weight: Array
    bias: Array
    kind: Kind
    strength: float
    cv_scores: Array
    out_of_fold: Array
    prior: Array

    def logits(self, features: Array) -> Array:
        """Linear scores (N, K) of features (N, D)."""
        scores: Array = np.asarray(features, np.float64) @ self.weight.T + self.bias
        return scores

    def predict_proba(self, features: Array) -> Array:
        """Probabilities (N, K); rows sum to 1 unless the task is multi-label."""
        return _probabilities(self.logits(features), self.prior, self.kind)


def linear_probe(features: Array, targets: Array, groups: Array, kind: Kind, classes: int, seed: int = 0) -> Probe:
    """Fit a class-balanced logistic regression on features (N, D).

    `targets` (N,) class indices or (N, K) of 0/1/NaN; rows without any label are ignored. `groups` (N,) name the
    patient of each row: no patient stands on both sides of a fold, and there are at most as many folds as the rarest
    class has patients. Features are standardised on all N rows, held-out ones included; labels never cross.
    Raises LabelError when nothing is labelled.
    """
    truth = one_versus_rest(targets, classes, kind)
    known = np.asarray(np.isfinite(truth).any(1))
    if not known.any():
        raise LabelError("a linear probe needs labelled images, and none is labelled")
    inputs, restore = _standardised(np.asarray(features)[known])
    truth, groups = truth[known], np.asarray(groups)[known]
    chosen = _choose(inputs, truth, _folds(groups, truth, kind, seed), kind)
    everything = _Problem(inputs, truth, np.ones((1, len(truth)), bool), kind)
    weight, bias = restore(everything.solve(chosen.start, chosen.strength, steps=200, tolerance=1e-6))
    out_of_fold = np.full((len(known), classes), np.nan)
    out_of_fold[known] = chosen.held_out
    return Probe(weight, bias, kind, chosen.strength, chosen.losses, out_of_fold, _prior(truth, kind))


def fit_temperature(logits: Array, targets: Array, kind: Kind) -> float:
    """Temperature T > 0 for which logits (N, K) / T have the least log loss (Guo et al., ICML 2017).

    Fit it on validation data or out-of-fold predictions. Between 0.05 and 20; 1 when nothing is labelled. Of a few
    images that are all told right the least loss would be that of endless certainty; so log T is taken to be normal
    around 0 with deviation 1, which weighs no more than one image does.
    """
    truth = one_versus_rest(targets, logits.shape[1], kind)
    weights = np.asarray(np.isfinite(truth).any(1, keepdims=True), np.float64)
    if not weights.any():
        return 1.0

    def loss(log_t: float) -> float:
        prior = log_t**2 / (2 * weights.sum())
        return float(prior) + _log_loss(np.asarray(logits, np.float64) / np.exp(log_t), truth, weights, kind)

    return float(np.exp(minimize_scalar(loss, bounds=(np.log(0.05), np.log(20)), method="bounded").x))


@dataclass(frozen=True)
class _Problem:
    """Logistic regressions on the same inputs (N, D + 1), one per row of `used` (F, N): the images each may see.

    A solution is one matrix (D + 1, F * K), the last input being the constant.
    """

    inputs: Array
    truth: Array
    used: Array
    kind: Kind

    def solve(self, start: Array, strength: float, *, steps: int, tolerance: float) -> Array:
        weights = np.stack([_balanced_weights(self.truth, used, self.kind) for used in self.used], axis=1)
        weights = weights.astype(self.inputs.dtype)
        label = np.nan_to_num(self.truth).astype(self.inputs.dtype)[:, None]
        penalty = np.full((len(start), 1), strength)
        penalty[-1] = 1e-6  # keeps the bias of a class without examples finite

        def loss(flat: Array) -> tuple[float, Array]:
            found = flat.reshape(start.shape)
            logits = (self.inputs @ found.astype(self.inputs.dtype)).reshape(len(label), len(self.used), -1)
            value, slope = _loss_and_slope(logits, label, weights, self.kind)
            gradient = self.inputs.T @ slope.reshape(len(label), -1) + penalty * found
            return value + float((penalty * found**2).sum()) / 2, gradient.ravel()

        options: Any = {"maxiter": steps, "ftol": tolerance, "gtol": 1e-5}
        result = minimize(loss, np.asarray(start, np.float64).ravel(), jac=True, method="L-BFGS-B", options=options)
        solution: Array = result.x.reshape(start.shape)
        return solution


def _loss_and_slope(logits: Array, label: Array, weights: Array, kind: Kind) -> tuple[float, Array]:
    """Weighted log loss of logits (..., K), and its gradient by them."""
    if kind == "multilabel":
        value = (weights * (np.logaddexp(0, logits) - label * logits)).sum(dtype=np.float64)
        return float(value), weights * (expit(logits) - label)
    log_p = log_softmax(logits, axis=-1)
    return float(-(weights * label * log_p).sum(dtype=np.float64)), weights * (np.exp(log_p) - label)


def _log_loss(logits: Array, truth: Array, weights: Array, kind: Kind) -> float:
    if kind == "multilabel":
        weights = np.where(np.isfinite(truth), weights, 0)
    return _loss_and_slope(logits, np.nan_to_num(truth), weights, kind)[0] / max(float(weights.sum()), 1e-12)


@dataclass(frozen=True)
class _Choice:
    """The strength of least cross-validated loss, the losses, what it said of images held out, and where to start."""

    strength: float
    losses: Array
    held_out: Array
    start: Array


def _choose(inputs: Array, truth: Array, fold: Array | None, kind: Kind) -> _Choice:
    """Try the strengths from the strongest on, and stop at the first that is worse than the one before."""
    count, classes = truth.shape
    if fold is None:
        start = np.zeros((inputs.shape[1], classes))
        return _Choice(_WITHOUT_FOLDS, np.zeros(0), np.full(truth.shape, np.nan), start)
    used = np.arange(fold.max() + 1)[:, None] != fold
    priors = np.stack([_prior(truth[mask], kind) for mask in used])[fold]
    weights = _balanced_weights(truth, np.ones(count, bool), kind)
    if kind == "multilabel":
        weights = np.where(np.isnan(priors), weights, 0)
    problem = _Problem(inputs, truth, used, kind)
    found = np.zeros((inputs.shape[1], len(used) * classes))
    losses: list[float] = []
    best: _Choice | None = None
    for strength in STRENGTHS:
        found = problem.solve(found, strength, steps=30, tolerance=1e-4)
        by_fold = (inputs @ found.astype(inputs.dtype)).reshape(count, len(used), classes)
        logits = by_fold[np.arange(count), fold].astype(np.float64)
        losses.append(_log_loss(logits, truth, weights, kind))
        if best is not None and losses[-1] >= losses[-2]:
            break
        start = found.reshape(len(found), len(used), classes).mean(1)
        best = _Choice(strength, np.zeros(0), _probabilities(logits, priors, kind), start)
    assert best is not None
    return replace(best, losses=np.array(losses))


def _probabilities(logits: Array, prior: Array, kind: Kind) -> Array:
    if kind != "multilabel":
        rows: Array = softmax(logits, axis=1)
        return rows
    return np.where(np.isnan(prior), expit(logits), prior)


def _prior(truth: Array, kind: Kind) -> Array:
    """(K,) Laplace's smoothed share of a label whose known images are all of one class, else NaN."""
    positive, negative = (truth == 1).sum(0), (truth == 0).sum(0)
    alone = (positive == 0) | (negative == 0)
    return np.where(alone & (kind == "multilabel"), (positive + 1) / (positive + negative + 2), np.nan)


def _balanced_weights(truth: Array, used: Array, kind: Kind) -> Array:
    """Weights (N, K), each label's sum 1, or (N, 1) of sum 1, in which every class present weighs the same."""
    seen = truth * np.where(used, 1.0, np.nan)[:, None]
    positive = (seen == 1) / np.maximum((seen == 1).sum(0), 1)
    if kind == "multilabel":
        negative = (seen == 0) / np.maximum((seen == 0).sum(0), 1)
        per_label: Array = (positive + negative) / 2 * np.isnan(_prior(seen, kind))
        return per_label
    per_image: Array = positive.sum(1, keepdims=True) / max(1, int((positive.sum(0) > 0).sum()))
    return per_image


def _standardised(features: Array) -> tuple[Array, Callable[[Array], tuple[Array, Array]]]:
    """Inputs (N, d + 1), the last column ones, and the way back from their solution (d + 1, K) to raw features.

    Constant features become zero. With fewer images than features the inputs are rotated into the space the images
    span: an L2 penalty cannot tell the difference, and the fit shrinks from D to N numbers per class.
    """
    mean = features.mean(0, dtype=np.float64)
    spread = features.std(0, dtype=np.float64)
    varies = spread > 1e-9 * np.maximum(1, np.abs(mean))
    scale = np.where(varies, 1 / np.where(varies, spread, 1), 0) / np.sqrt(max(1, int(varies.sum())))
    centred = (features - mean) * scale
    turn: Array | None = None
    if len(centred) < centred.shape[1]:
        left, size, turn = np.linalg.svd(centred, full_matrices=False)
        centred = left * size
    inputs = np.concatenate([centred, np.ones((len(centred), 1))], axis=1).astype(np.float32)

    def restore(solution: Array) -> tuple[Array, Array]:
        slope = solution[:-1] if turn is None else turn.T @ solution[:-1]
        weight = (slope * scale[:, None]).T
        return weight, solution[-1] - weight @ mean

    return inputs, restore


def _folds(groups: Array, truth: Array, kind: Kind, seed: int) -> Array | None:
    """Fold of each image, as many as let every class stand in each, 5 at most; None where 2 are too many."""
    from medprior.data.splits import grouped_folds

    sides = [truth == 1, truth == 0] if kind == "multilabel" else [truth == 1]
    counts = np.array([len(np.unique(groups[column])) for side in sides for column in side.T])
    folds = min(5 if len(truth) <= 1000 else 3, int(counts[counts > 1].min(initial=len(groups))))
    if folds < 2 or (counts > 1).sum() < 2 or len(np.unique(groups)) < folds:
        return None
    rarity = np.argsort(-(truth == 1).sum(0), kind="stable")
    stratum = np.full(len(truth), -1)
    for label in rarity:
        stratum[truth[:, label] == 1] = label
    return np.asarray(grouped_folds(groups, stratum, folds, seed))
