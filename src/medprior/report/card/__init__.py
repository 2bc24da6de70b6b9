"""The data card as a page."""

from __future__ import annotations

from medprior.report.card.kept import data_card as data_card
from medprior.report.card.page import write_data_card as write_data_card
