"""The data card: what a folder holds, whether it is safe to train on, and what to mend first."""

from __future__ import annotations

from medprior.data.card.build import make_card as make_card
from medprior.data.card.content import SCHEMA as SCHEMA
from medprior.data.card.content import Card as Card
