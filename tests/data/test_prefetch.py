"""Results made ahead: in order, bounded, errors at their step, no thread left behind."""

import random
import threading
import time
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medprior.data.store.prefetch import Prefetch
from medprior.errors import RunError


class Maker:
    """Counts what is in the making or lies ready, and remembers the most there ever was."""

    def __init__(self, failing: frozenset[int], shuffle: int) -> None:
        self.failing, self.random = failing, random.Random(shuffle)
        self.lock = threading.Lock()
        self.ahead = self.most = 0
        self.made: list[int] = []

    def __call__(self, step: int) -> int:
        with self.lock:
            self.ahead += 1
            self.most = max(self.most, self.ahead)
            self.made.append(step)
            pause = self.random.choice([0, 0, 1e-4, 5e-4])
        time.sleep(pause)  # so that threads overtake each other
        if step in self.failing:
            raise KeyError(step)
        return 3 * step

    def taken(self) -> None:
        """Called before a result is taken: from then on it is not ahead any more."""
        with self.lock:
            self.ahead -= 1


@settings(max_examples=80)
@given(
    first=st.integers(0, 5),
    count=st.integers(0, 25),
    threads=st.integers(1, 5),
    depth=st.integers(1, 5),
    failing=st.frozensets(st.integers(0, 30), max_size=5),
    stop=st.integers(0, 30),
    shuffle=st.integers(0, 100),
)
def test_order_bound_errors_and_an_early_stop(
    first: int, count: int, threads: int, depth: int, failing: frozenset[int], stop: int, shuffle: int
) -> None:
    make, before = Maker(failing, shuffle), set(threading.enumerate())
    with Prefetch(make, first, first + count, threads=threads, depth=depth) as queue:
        for step in range(first, min(first + count, first + stop)):
            make.taken()
            if step in failing:
                with pytest.raises(KeyError, match=str(step)):
                    queue.take(step)
            else:
                assert queue.take(step) == 3 * step
        used = min(count, stop)
    assert set(threading.enumerate()) <= before, "every thread has ended"
    assert sorted(make.made) == list(range(first, first + len(make.made))), "each once, from the first on"
    assert used <= len(make.made) <= min(count, used + depth)
    assert make.most <= depth


def test_a_slow_make_overlaps_with_the_consumer_and_with_others() -> None:
    """Each of three is only done when all three have begun, while the consumer has not asked for any of them."""
    together = threading.Barrier(3, timeout=30)
    with Prefetch(lambda step: together.wait() >= 0, 0, 3, threads=3, depth=3) as queue:
        assert [queue.take(step) for step in range(3)] == [True] * 3


def test_no_more_than_depth_lie_ready_while_the_consumer_is_busy() -> None:
    begun = [threading.Event() for _ in range(6)]
    with Prefetch(lambda step: begun[step].set(), 0, 6, threads=2, depth=2) as queue:
        assert begun[0].wait(30) and begun[1].wait(30)
        assert not begun[2].wait(0.1), "there is no room before one is taken"
        queue.take(0)
        assert begun[2].wait(30)
        assert not begun[3].is_set()


def test_waiting_is_counted_only_when_nothing_is_ready() -> None:
    go, done = threading.Event(), threading.Event()

    def make(step: int) -> int:
        if step == 1:
            go.wait(30)
        done.set()
        return step

    with Prefetch(make, 0, 2, threads=1, depth=2) as queue:
        assert done.wait(30)
        queue.take(0)
        before = queue.waited
        threading.Timer(0.05, go.set).start()
        queue.take(1)
        assert queue.waited - before > 0.01


@pytest.mark.parametrize("act", [lambda queue: queue.take(4), lambda queue: (queue.take(3), queue.take(3))])
def test_steps_out_of_order_are_refused(act: Callable[[Prefetch[int]], object]) -> None:
    with Prefetch(lambda step: step, 3, 5, threads=1, depth=1) as queue, pytest.raises(RunError, match="is next"):
        act(queue)


def test_the_end_is_the_end_and_closed_is_closed() -> None:
    queue = Prefetch(lambda step: step, 0, 1, threads=2, depth=2)
    assert queue.take(0) == 0
    with pytest.raises(RunError, match="1 of 1"):
        queue.take(1)
    queue.close()
    queue.close()
    other = Prefetch(lambda step: step, 0, 1, threads=1, depth=1)
    other.close()
    with pytest.raises(RunError, match="closed queue"):
        other.take(0)


def test_closing_wakes_a_consumer_that_waits() -> None:
    hold, refused = threading.Event(), threading.Event()
    queue = Prefetch(lambda step: hold.wait(30), 0, 1, threads=1, depth=1)

    def consume() -> None:
        with pytest.raises(RunError, match="closed queue"):
            queue.take(0)
        refused.set()

    consumer, closing = threading.Thread(target=consume), threading.Thread(target=queue.close)
    consumer.start()
    closing.start()
    assert refused.wait(30), "while its step is still in the making"
    hold.set()
    consumer.join(30)
    closing.join(30)
    assert not closing.is_alive()


class Large:
    """A result whose end is seen."""

    alive = 0

    def __init__(self) -> None:
        Large.alive += 1

    def __del__(self) -> None:
        Large.alive -= 1


def test_results_are_let_go() -> None:
    """Neither the thread that made one nor the queue holds on to it."""
    with Prefetch(lambda step: Large(), 0, 2, threads=1, depth=1) as queue:
        for step in range(2):
            queue.take(step)
            assert Large.alive <= 1, "what was taken is gone, one more may lie ready"
    assert not Large.alive
