"""MoCo v2: a view finds the other view of its image among thousands of others, which a queue remembers."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from medprior.methods.heads import Branch, mlp
from medprior.methods.method import Batch, Clock, DataFacts, Losses, Method, MethodConfig
from medprior.methods.teacher import Teacher
from medprior.objectives.contrastive import info_nce, shuffled
from medprior.objectives.gather import gather
from medprior.objectives.precision import full, sound
from medprior.views.draws import Key, uniform
from medprior.views.plan import ViewPlan, independent
from medprior.views.recipe import ViewRecipe
from medprior.views.view import View


class MoCo(Method):
    """Find the key of each query, made by a slow copy of the network, among the keys of earlier batches.

    He et al., CVPR 2020, arXiv 1911.05722; Chen et al. 2020, arXiv 2003.04297. Scans are mixed across processes before
    the key network, lest its batch norm betray which key belongs to a query. One process has nothing to mix with: there
    query and key of a step share their batch, and only encoders without batch norm are safe. Keys of other slices of
    the same patient count as others.
    """

    paper = "He et al., CVPR 2020, arXiv 1911.05722; Chen et al. 2020, arXiv 2003.04297"
    title = "MoCo v2"

    class Config(MethodConfig):
        """How keys are made, and how many are remembered.

        Attributes:
            projection: widths of the projector, hidden layers and output.
            queue: keys to remember.
            queue_share: largest share of the data that the queue may hold. The more it holds, the more often an image
                is told apart from its own older key.
            momentum: of the key network.
        """

        temperature: float = Field(0.2, gt=0)
        projection: tuple[int, ...] = Field((2048, 128), min_length=1)
        queue: int = Field(65536, ge=1)
        queue_share: float = Field(0.1, gt=0, le=1)
        momentum: float = Field(0.999, ge=0, le=1)

    config: Config

    def views(self, base: ViewRecipe) -> ViewPlan:
        return independent(base.contrastive(), count=2)

    def build(self, facts: DataFacts) -> None:
        config = self.config
        self.projector = mlp(self.encoder.embed_dim, *config.projection, norm=False)
        self.teacher = Teacher(Branch(self.encoder, self.projector))
        fitting = max(1, int(config.queue_share * facts.count))
        self.queue = Queue(min(config.queue, fitting), config.projection[-1])

    def forward(self, views: Sequence[View], batch: Batch) -> Losses:
        query, key = views
        queries = self.projector(self.embed(query.pixels))
        draws = uniform(Key(batch.seed, batch.step, batch.index, view=1), "shuffle")
        keys = F.normalize(full(shuffled(self.teacher, key.pixels, draws)), dim=1)
        self.queue.waiting = gather(keys)
        return {"loss": info_nce(queries, keys, self.queue.keys, self.config.temperature)}

    def before_update(self, clock: Clock) -> None:
        self.queue.advance()

    def after_update(self, clock: Clock) -> None:
        self.teacher.move(Branch(self.encoder, self.projector), self.config.momentum)

    def parts(self) -> dict[str, nn.Module]:
        return {"projector": self.projector, "teacher": self.teacher}


class Queue(nn.Module):
    """The newest keys, a ring in which the oldest are overwritten first.

    Those of the running step wait outside until the next one begins. So a step that is repeated meets the same queue,
    and nothing that a gradient needs is written over.

    Attributes:
        keys: (K, D) of unit length, random at first.
        cursor: () where the next key goes.
        waiting: (B, D) keys of the running step, for all processes the same.
    """

    keys: Tensor
    cursor: Tensor

    def __init__(self, count: int, width: int) -> None:
        super().__init__()
        self.register_buffer("keys", F.normalize(torch.randn(count, width), dim=1))
        self.register_buffer("cursor", torch.zeros((), dtype=torch.int64))
        self.waiting = torch.empty(0, width)

    def advance(self) -> None:
        """Take in the keys that wait; of more than K, the last."""
        count, arrived = len(self.keys), len(self.waiting)
        newest = self.waiting[-count:].to(self.keys)
        places = torch.arange(arrived - len(newest), arrived, device=self.keys.device)
        places = (self.cursor + places) % count
        self.keys.index_copy_(0, places, sound(newest, self.keys[places]))
        self.cursor.add_(arrived).remainder_(count)
        self.waiting = self.waiting[:0]

    def get_extra_state(self) -> Tensor:
        """The keys that wait: as many as a batch has, so that no buffer of a given size holds them."""
        return self.waiting

    def set_extra_state(self, state: Tensor) -> None:
        """Let those keys wait."""
        self.waiting = state
