"""How hard is the generated cohort? Trains from scratch at several label budgets; reports the AUROC on other patients.

Visibility of the lesions is set by this alone, before any pre-training is tried on the cohort: 20 labels must be hard
and 500 enough. The recipe is the same for all budgets and stops at its last step.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn
from torch.nn import functional as F

from medprior.data.phantom import anatomy, render_xray
from medprior.data.phantom.chest import LESION_HU, LESION_RADIUS

POOL, TEST = 500, 400
STEPS, BATCH, RATE, DECAY, WIDTHS = 300, 32, 2e-3, 0.05, (16, 32, 64, 128)
RECIPE = {"steps": STEPS, "batch": BATCH, "learning_rate": RATE, "weight_decay": DECAY, "widths": WIDTHS}


class Block(nn.Module):
    """Two 3x3 convolutions with a shortcut; halves the side."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, width, 3, stride=2, padding=1, bias=False)
        self.second = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.shortcut = nn.Conv2d(channels, width, 1, bias=False)
        self.norms = nn.ModuleList(nn.BatchNorm2d(width) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        inner = self.norms[1](self.second(F.relu(self.norms[0](self.first(x)))))
        return F.relu(inner + self.norms[2](self.shortcut(F.avg_pool2d(x, 2))))


def network() -> nn.Module:
    """A small residual network from (B, 1, 64, 64) to one logit."""
    blocks = [Block(a, b) for a, b in zip((1, *WIDTHS), WIDTHS, strict=False)]
    return nn.Sequential(*blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(WIDTHS[-1], 1))


def cohort(first: int, count: int, seed: int) -> tuple[Tensor, Tensor]:
    """X-rays (N, 1, 64, 64) in [0, 1] and labels (N,) of some patients."""
    people = [anatomy(seed, patient) for patient in range(first, first + count)]
    images = np.stack([render_xray(person, 64).image for person in people])
    return torch.from_numpy(images)[:, None].float() / 255, torch.tensor([float(bool(p.lesions)) for p in people])


def augment(images: Tensor, generator: torch.Generator) -> Tensor:
    """Small rotations, scales, shifts and changes of brightness and contrast; no flips."""
    count = len(images)
    draws = 2 * torch.rand(count, 6, generator=generator) - 1
    angle, scale = 0.12 * draws[:, 0], 1 + 0.1 * draws[:, 1]
    cos, sin = scale * torch.cos(angle), scale * torch.sin(angle)
    affine = torch.stack([cos, -sin, 0.1 * draws[:, 2], sin, cos, 0.1 * draws[:, 3]], 1).view(count, 2, 3)
    moved = F.grid_sample(images, F.affine_grid(affine, list(images.shape), align_corners=False), align_corners=False)
    contrast, brightness = (1 + 0.2 * draws[:, 4]).view(-1, 1, 1, 1), (0.1 * draws[:, 5]).view(-1, 1, 1, 1)
    return moved * contrast + brightness


def choose(labels: Tensor, budget: int, rng: np.random.Generator) -> Tensor:
    """Patients of the pool: half of the budget from each class."""
    halves = [rng.permutation(np.flatnonzero(labels.numpy() == value)) for value in (0, 1)]
    half = min(budget // 2, *(len(h) for h in halves))
    return torch.from_numpy(np.concatenate([h[:half] for h in halves]))


def train(images: Tensor, labels: Tensor, seed: int) -> nn.Module:
    """The fixed recipe: AdamW, one cycle, batches balanced by class."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    model = network()
    optimizer = torch.optim.AdamW(model.parameters(), RATE, weight_decay=DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=STEPS)
    classes = [torch.nonzero(labels == value).flatten() for value in (0, 1)]
    for _ in range(STEPS):
        rows = torch.cat([rows[torch.randint(len(rows), (BATCH // 2,), generator=generator)] for rows in classes])
        logits = model(augment(images[rows], generator) * 2 - 1).flatten()
        loss = F.binary_cross_entropy_with_logits(logits, labels[rows])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        schedule.step()
    return model.eval()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--budgets", type=int, nargs="+", default=[20, 100, 500])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--cohort-seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("results.json"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    start = time.process_time()
    images, labels = cohort(0, POOL, options.cohort_seed)
    test_images, test_labels = cohort(POOL, TEST, options.cohort_seed)
    made = time.process_time() - start
    runs = []
    for budget in options.budgets:
        for seed in range(options.seeds):
            rows = choose(labels, budget, np.random.default_rng([seed, budget]))
            model = train(images[rows], labels[rows], seed)
            with torch.no_grad():
                scores = model(test_images * 2 - 1).flatten()
            auroc = float(roc_auc_score(test_labels, scores))
            runs.append({"budget": budget, "patients": len(rows), "seed": seed, "auroc": round(auroc, 4)})
            print(runs[-1], flush=True)
    summary = [_summary(runs, budget) for budget in options.budgets]
    facts = {
        "lesion_radius_mm": LESION_RADIUS,
        "lesion_hu": LESION_HU,
        "pool": POOL,
        "test": TEST,
        "cohort_seed": options.cohort_seed,
    }
    seconds = {"cohort": round(made, 1), "all": round(time.process_time() - start, 1)}
    result = {**facts, "recipe": RECIPE, "cpu_seconds": seconds, "summary": summary, "runs": runs}
    options.out.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(summary, indent=2))


def _summary(runs: list[dict[str, float]], budget: int) -> dict[str, float]:
    values = [run["auroc"] for run in runs if run["budget"] == budget]
    return {"budget": budget, "mean": round(float(np.mean(values)), 3), "low": min(values), "high": max(values)}


if __name__ == "__main__":
    main()
