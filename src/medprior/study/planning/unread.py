"""Settings that were given but that a study of this kind never reads: said in its plan, or refused."""

from __future__ import annotations

from medprior.config import Settings, given
from medprior.errors import SettingsError

OUTLINING = {
    "adapt.adaptations": "fine-tuning is the only one",
    "adapt.batch_size": "adapt.crops is",
    "adapt.class_balanced": "",
    "adapt.early_stop_from": "",
    "adapt.learning_rates": "adapt.outline_rate is",
    "study.corruptions": "",
    "study.free_validation": "",
}
"""What a study that learns outlines never reads, and what it reads instead."""
CLASSIFYING = {
    "adapt.crops": "adapt.batch_size is",
    "adapt.decoder": "",
    "adapt.mirrored": "",
    "adapt.outline_rate": "adapt.learning_rates are",
    "adapt.overlap": "",
    "adapt.supervise": "",
    "data.masks": "",
    "data.spacing": "",
    "study.tolerance": "",
}
"""The same of a study that classifies."""


def check_adaptations(settings: Settings, outlined: bool) -> None:
    """Refuse to learn outlines by a probe alone.

    Raises:
        SettingsError: fine-tuning is not among the adaptations.
    """
    if outlined and "fine-tune" not in settings.adapt.adaptations:
        do = "Write adapt.adaptations=[fine-tune], or leave it out; --task classify learns labels instead"
        what = "outlines are learnt by fine-tuning alone, and only a probe was asked for"
        raise SettingsError(what, where="setting adapt.adaptations", do=do)


def unread_settings(settings: Settings, outlined: bool) -> tuple[str, ...]:
    """Names of the settings that were given and make no difference, in the order of the alphabet."""
    unread = set(given(settings)) & set(OUTLINING if outlined else CLASSIFYING)
    if settings.adapt.adaptations == ("fine-tune",):
        unread.discard("adapt.adaptations")
    return tuple(sorted(unread))


def unread_lines(settings: Settings, outlined: bool) -> list[str]:
    """A line on them for the plan; none where there is nothing to say."""
    names = unread_settings(settings, outlined)
    if not names:
        return []
    instead = OUTLINING if outlined else CLASSIFYING
    said = [f"{name} ({instead[name]})" if instead[name] else name for name in names]
    work = "outlines are learnt" if outlined else "scans are classified"
    return [f"         Given, but not read where {work}: {', '.join(said)}"]
