"""Leases: one of many holds a key; who dies is followed by another; what failed is not tried again while all go on."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from sgtr_jax.errors import InputError, RunError
from sgtr_jax.experiment import leases as module
from sgtr_jax.experiment.leases import Leases

SECONDS = 0.6


@pytest.fixture
def address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(module, "LEASE_SECONDS", SECONDS)
    return f"file://{tmp_path}/run"


@pytest.fixture
def two(address: str) -> Iterator[tuple[Leases, Leases]]:
    first, second = Leases(address, "first"), Leases(address, "second")
    yield first, second
    first.close()
    second.close()


def kill(leases: Leases) -> None:
    """Its machine dies: no beat any more, and nothing is given up."""
    leases._ended.set()
    leases._thread.join()


def taken_in(leases: Leases, key: str, seconds: float) -> float | None:
    """After how many seconds the lease was taken; None if it was not."""
    started = time.monotonic()
    while time.monotonic() - started < seconds:
        leases.look()
        if leases.take(key):
            return time.monotonic() - started
        time.sleep(0.02)
    return None


def test_of_many_machines_one_holds_a_key(address: str) -> None:
    machines = [Leases(address, str(i)) for i in range(8)]
    start = threading.Barrier(8)

    def race(machine: Leases) -> list[str]:
        start.wait()
        return [key for key in map(str, range(40)) if machine.take(key)]

    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(race, machines))
    assert Counter(key for keys in won for key in keys) == Counter(map(str, range(40)))
    for machine in machines:
        machine.close()
    assert not list(Path(address.removeprefix("file://")).glob("leases/*"))


def test_a_lease_is_held_as_long_as_its_holder_lives(two: tuple[Leases, Leases]) -> None:
    first, second = two
    assert first.take("a") and first.take("a")
    assert taken_in(second, "a", 4 * SECONDS) is None


def test_a_lease_that_was_given_up_is_taken_at_once(two: tuple[Leases, Leases]) -> None:
    first, second = two
    first.take("a")
    first.free("a")
    second.look()
    assert second.take("a") and not first.take("a")


def test_who_dies_is_followed_by_one_other(address: str, capfd: pytest.CaptureFixture[str]) -> None:
    first, second, third = (Leases(address, name) for name in ("part 1/3", "part 2/3", "part 3/3"))
    assert first.take("a")
    time.sleep(SECONDS / 2)
    kill(first)
    with ThreadPoolExecutor(2) as pool:
        waited = [*pool.map(lambda machine: taken_in(machine, "a", 2 * SECONDS), (second, third))]
    found = [seconds for seconds in waited if seconds is not None]
    assert len(found) == 1 and found[0] >= SECONDS
    assert "a.0: part 1/3, process" in (said := capfd.readouterr().err) and "no sign of life" in said
    # A third machine sees the second holder alive.
    fourth = Leases(address, "part 4/4")
    assert taken_in(fourth, "a", 2 * SECONDS) is None
    for one in (second, third, fourth):
        one.close()


def test_what_failed_is_not_tried_again_before_the_next_start(two: tuple[Leases, Leases], address: str) -> None:
    first, second = two
    first.take("a")
    first.end("a", failed="no memory")
    second.look()
    assert second.failure("a") == first.failure("a") == "no memory"
    assert not second.take("a") and not first.take("a")
    later = Leases(address, "later")
    assert later.failure("a") is None and later.take("a")
    second.look()
    assert second.failure("a") is None and not second.take("a")
    later.end("a", done="made")
    second.look()
    assert second.done("a") == "made" and not second.take("a")
    later.close()


def test_a_key_that_begins_like_another_is_another(two: tuple[Leases, Leases]) -> None:
    first, second = two
    first.take("pairs-1")
    second.look()
    assert second.take("pairs-12") and second.take("pairs")


def test_addresses_of_nothing_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nothing://x"):
        Leases("nothing://x", "a")
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot be read or written"):
        Leases(f"file://{tmp_path}/file", "a").take("k")
