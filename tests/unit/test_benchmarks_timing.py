"""Interleaved timing with a clock of our own: the order of calls, what counts, and the numbers by hand."""

import pytest

from benchmarks.timing import Timing, measure


class Clock:
    """Stands still except while one of its calls runs; remembers their order."""

    def __init__(self) -> None:
        self.now_s, self.calls = 100.0, []

    def __call__(self) -> float:
        return self.now_s

    def taking(self, name: str, *seconds: float):
        """A callable that takes these seconds, one call after the other, and returns how often it was called."""
        remaining = list(seconds)

        def call() -> int:
            self.calls.append(name)
            self.now_s += remaining.pop(0)
            return self.calls.count(name)

        return call


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_takes_turns_and_leaves_out_the_warm_up(clock: Clock) -> None:
    calls = {"plain": clock.taking("plain", 9.0, 2.0, 4.0), "fast": clock.taking("fast", 7.0, 0.5, 0.25)}
    timings = measure(calls, repeats=2, once_above_s=20.0, clock=clock)
    assert clock.calls == ["plain", "fast"] * 3
    assert list(timings) == ["plain", "fast"]
    assert timings["plain"].samples_s == (2.0, 4.0)
    assert timings["fast"].samples_s == (0.5, 0.25)


def test_what_takes_long_is_called_once(clock: Clock) -> None:
    calls = {"long": clock.taking("long", 5.5), "short": clock.taking("short", 5.0, 1.0, 1.0, 1.0)}
    timings = measure(calls, repeats=3, once_above_s=5.0, clock=clock)
    assert clock.calls == ["long", "short", "short", "short", "short"]
    assert timings["long"].samples_s == (5.5,)
    assert timings["short"].samples_s == (1.0, 1.0, 1.0)


def test_keeps_the_newest_result(clock: Clock) -> None:
    calls = {"a": clock.taking("a", 1.0, 1.0, 1.0), "once": clock.taking("once", 8.0)}
    timings = measure(calls, repeats=2, once_above_s=5.0, clock=clock)
    assert (timings["a"].result, timings["once"].result) == (3, 1)


def test_at_least_one_round_must_count(clock: Clock) -> None:
    with pytest.raises(ValueError, match="repeats must be at least 1, got 0"):
        measure({"a": clock.taking("a", 1.0)}, repeats=0, once_above_s=1.0, clock=clock)


def test_statistics_by_hand() -> None:
    timing = Timing((8.0, 1.0, 2.0, 4.0))
    assert (timing.median_s, timing.low_s, timing.high_s) == (3.0, 1.0, 8.0)
    assert timing.quartiles_s == (1.75, 5.0)
    assert timing.seconds("plain_s") == {"plain_s": 3.0, "plain_s_low": 1.0, "plain_s_high": 8.0}


def test_the_slowest_call_is_the_lowest_rate() -> None:
    assert Timing((8.0, 1.0, 2.0, 4.0)).rate("images_per_s", 24) == {
        "images_per_s": 8.0,
        "images_per_s_low": 3.0,
        "images_per_s_high": 24.0,
    }
