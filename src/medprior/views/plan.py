"""Which views a method wants of every scan, in order."""

from __future__ import annotations

from dataclasses import dataclass, field

from medprior.errors import SettingsError
from medprior.views.recipe import ViewRecipe


@dataclass(frozen=True)
class ViewSpec:
    """One view of the plan.

    Attributes:
        name: unique in the plan.
        recipe: ranges to draw from.
        geometry_of: name of an earlier view whose place in the scan this one takes over: the same affine, its own
            size and its own intensity (as the teacher of Ark sees the student's crop).
    """

    name: str
    recipe: ViewRecipe
    geometry_of: str | None = None


@dataclass(frozen=True)
class Group:
    """Views of a plan that are made in one pass, since they differ in nothing but what is drawn.

    Attributes:
        recipe: their size and intensities.
        geometry: the recipe their places are drawn from.
        positions: where they stand in the plan.
        sources: for each, the position of the view whose place it has.
    """

    recipe: ViewRecipe
    geometry: ViewRecipe
    positions: tuple[int, ...]
    sources: tuple[int, ...]

    def apart(self) -> tuple[Group, ...]:
        """Each of its views as a group of its own."""
        alone = zip(self.positions, self.sources, strict=True)
        return tuple(Group(self.recipe, self.geometry, (position,), (source,)) for position, source in alone)


@dataclass(frozen=True)
class ViewPlan:
    """The views of every scan of a batch; sizes may differ (multi-crop).

    Attributes:
        specs: the views, in order.
        groups: the same views, those together that are alike.

    Raises:
        SettingsError: no view, a name twice, a `geometry_of` that names no earlier view, or views of both
            dimensionalities.
    """

    specs: tuple[ViewSpec, ...]
    groups: tuple[Group, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not self.specs:
            raise SettingsError("a view plan needs at least one view", where="views")
        if len({spec.recipe.spatial_dims for spec in self.specs}) > 1:
            raise SettingsError("a view plan cannot mix 2D and 3D views", where="views")
        for position, spec in enumerate(self.specs):
            earlier = [other.name for other in self.specs[:position]]
            if spec.name in earlier:
                raise SettingsError(f'two views are called "{spec.name}"', where="views", do="Give each its own name.")
            if spec.geometry_of is not None and spec.geometry_of not in earlier:
                raise SettingsError(
                    f'view "{spec.name}" takes its geometry from "{spec.geometry_of}", which does not precede it',
                    where="views",
                    do=f"Earlier views: {', '.join(earlier) or 'none'}.",
                )
        object.__setattr__(self, "groups", self._grouped())

    def geometry_source(self, position: int) -> int:
        """Position of the view whose place the view at `position` has: its own, or that of the view it names."""
        names = [spec.name for spec in self.specs]
        while (source := self.specs[position].geometry_of) is not None:
            position = names.index(source)
        return position

    def _grouped(self) -> tuple[Group, ...]:
        alike: dict[tuple[ViewRecipe, ViewRecipe], list[int]] = {}
        for position, spec in enumerate(self.specs):
            geometry = self.specs[self.geometry_source(position)].recipe
            alike.setdefault((spec.recipe, geometry), []).append(position)
        return tuple(
            Group(recipe, geometry, tuple(positions), tuple(map(self.geometry_source, positions)))
            for (recipe, geometry), positions in alike.items()
        )


def independent(recipe: ViewRecipe, count: int, name: str = "view") -> ViewPlan:
    """`count` views drawn independently from one recipe, named `name0`, `name1`, …

    Plans are joined by their specs: `ViewPlan(independent(whole, 2).specs + independent(part, 6, "part").specs)`.
    """
    return ViewPlan(tuple(ViewSpec(f"{name}{i}", recipe) for i in range(count)))
