"""From a catalog to its card."""

from __future__ import annotations

from typing import TYPE_CHECKING

from medprior.data.card.alongside import beside
from medprior.data.card.content import Card
from medprior.data.card.findings import boxes_left_out, findings, headline, repaired, torn_tables
from medprior.data.card.headers import headers
from medprior.data.card.kinds import kinds
from medprior.data.card.people import labels, parts, patients
from medprior.data.card.trust import copies, found_leaks, problem_counts, problems, said_leaks
from medprior.data.intensity import CT_WINDOW, plan_intensity

if TYPE_CHECKING:
    from medprior.data.catalog import Catalog


def make_card(catalog: Catalog, ct_window: tuple[float, float] = CT_WINDOW) -> Card:
    """Describe a catalog in numbers that may be shared. No file is opened.

    Args:
        ct_window: HU that become black and white.

    Raises:
        SettingsError: a window without width.
    """
    table = catalog.table
    plan = plan_intensity(table, ct_window)
    there = kinds(table, plan, catalog.duplicates.original)
    who, what, splits = patients(catalog), labels(catalog), parts(catalog)
    found = found_leaks(catalog)
    twice, remarks = copies(catalog, found), problem_counts(catalog.problems)
    said = said_leaks(found, table["hash"].to_numpy(dtype=str), repaired(catalog.warnings))
    reasons = catalog.problems["reason"]
    torn, unboxed = torn_tables(reasons), boxes_left_out(reasons)
    doubts = remarks.get("doubt", 0) - torn
    first = findings(there, who, what, splits, twice, said, remarks, torn, unboxed, catalog.warnings)
    scans = sum(kind.images for kind in there), sum(kind.volumes for kind in there)
    return Card(
        headline=headline(scans, there, who, first, doubts),
        findings=first,
        scans=len(catalog),
        images=scans[0],
        volumes=scans[1],
        kinds=there,
        patients=who,
        labels=what,
        headers=headers(catalog),
        beside=beside(table),
        splits=splits,
        copies=twice,
        leaks=said,
        problems=problems(catalog.problems),
        problem_counts=remarks,
        plan=plan.reasons,
        warnings=tuple(catalog.warnings),
        fingerprint=catalog.fingerprint(),
    )
