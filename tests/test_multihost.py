"""What the processes of a job say to each other while one of them leads the sampling."""

from __future__ import annotations

from pathlib import Path

import processes
import pytest

pytestmark = pytest.mark.slow
SCRIPT = str(Path(__file__).parent / "support" / "multihost_calls.py")


def run(who: str) -> list[tuple[int, str, str]]:
    return processes.finish(processes.start([SCRIPT, who], 2), timeout=90)


def test_a_call_that_fails_everywhere_is_the_leaders_affair() -> None:
    (code, out, error), (other, followed, complaint) = run("both")
    assert code == other == 0, error + complaint
    assert out.splitlines() == ["call 1", "failed: no room", "call 3"] and followed == "followed 3"


@pytest.mark.parametrize("who", ["other", "stuck"])
def test_a_call_that_fails_in_a_follower_only_ends_the_job_with_its_reason(who: str) -> None:
    (code, _, _), (other, followed, complaint) = run(who)
    assert code != 0 and other != 0 and "no room" in complaint and not followed


def test_a_call_that_fails_in_the_leader_only_ends_the_job() -> None:
    (code, _, complaint), (other, followed, _) = run("first")
    assert code != 0 and other != 0 and "no room" in complaint and not followed
