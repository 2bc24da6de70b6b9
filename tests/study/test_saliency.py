"""Which test images get heat maps: right and wrong answers by chance alone, nobody twice, every class in turn."""

from __future__ import annotations

import numpy as np

from medprior.study.saliency import EACH, draw

NAMES = ("clear", "effusion", "mass")


def classes(count: int = 60, seed: int = 0) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(seed)
    rows, persons = np.arange(count) * 3 + 1, np.arange(count) // 2
    return rng.dirichlet(np.ones(3), count), rng.integers(0, 3, count).astype(float), rows, persons


def test_right_and_wrong_ones_are_what_the_chances_say_and_nobody_is_there_twice() -> None:
    chances, targets, rows, persons = classes()
    found = draw(chances, targets, rows, persons, NAMES, seed=0)
    at = {int(row): i for i, row in enumerate(rows)}
    assert [one.right for one in found] == [True] * EACH + [False] * EACH
    for one in found:
        i = at[one.row]
        assert one.truth == NAMES[int(targets[i])] and one.said == NAMES[chances[i].argmax()] == NAMES[one.label]
        assert one.chance == chances[i].max() and one.there
    assert len({persons[at[one.row]] for one in found}) == 2 * EACH
    assert {one.label for one in found[:3]} == {0, 1, 2}
    assert [one.row for one in found] == [one.row for one in draw(chances, targets, rows, persons, NAMES, seed=0)]
    assert [one.row for one in found] != [one.row for one in draw(chances, targets, rows, persons, NAMES, seed=1)]


def test_the_sure_ones_are_not_preferred() -> None:
    chances, targets, rows, persons = classes(400)
    wrong = chances.argmax(1) != targets
    middle = np.median(chances.max(1)[wrong])
    drawn = [one.chance for s in range(40) for one in draw(chances, targets, rows, persons, NAMES, seed=s)[EACH:]]
    assert 0.35 < np.mean(np.array(drawn) > middle) < 0.65


def test_of_several_labels_one_that_is_there_and_one_that_was_got_wrong() -> None:
    rng = np.random.default_rng(0)
    chances, targets = rng.random((80, 3)), rng.integers(0, 2, (80, 3)).astype(float)
    targets[rng.random((80, 3)) < 0.2] = np.nan
    found = draw(chances, targets, np.arange(80), np.arange(80), NAMES, seed=0)
    for one in found:
        chance, target = chances[one.row, one.label], targets[one.row, one.label]
        assert one.there == (chance >= 0.5)
        assert one.right == (target == one.there)
        assert one.said == (NAMES[one.label] if one.there else f"no {NAMES[one.label]}")
    assert all(one.there for one in found[:EACH]) and not all(one.right for one in found)


def test_a_model_that_is_always_right_or_always_wrong_has_half_the_images() -> None:
    chances, _, rows, persons = classes()
    right = chances.argmax(1).astype(float)
    assert [one.right for one in draw(chances, right, rows, persons, NAMES, seed=0)] == [True] * EACH
    assert [one.right for one in draw(chances, (right + 1) % 3, rows, persons, NAMES, seed=0)] == [False] * EACH
