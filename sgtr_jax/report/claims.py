"""The claims of a run's config: supported, not supported, or not to be concluded with its seeds."""

from __future__ import annotations

import html
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from sgtr_jax.report.contrasts import (
    EQUIVALENT,
    HIGHER,
    INFERIOR,
    LOWER,
    NONE_OF_SIZE,
    NOT_EQUIVALENT,
    NOT_INFERIOR,
    Tested,
)
from sgtr_jax.report.run_file import ClaimEntry

SUPPORTED, NOT_SUPPORTED, OPEN = "supported", "not supported", "cannot be concluded with these seeds"
esc = html.escape


@dataclass(frozen=True)
class Judged:
    """A claim with what was found of each contrast that it stands on."""

    text: str
    verdict: str
    parts: tuple[tuple[Tested, str, str], ...]  # the contrast, what has to be found, and whether it was


def judged_claims(claims: Sequence[ClaimEntry], tested: Sequence[Tested]) -> list[Judged]:
    """Each claim that this run has contrasts of.

    It is supported where all of them are as it says, each at its own level, and not supported where one is shown to be
    otherwise. A contrast that it needs and that this run does not have leaves it open.
    """
    found = []
    for claim in claims:
        parts, absent = [], False
        for name, expected in claim["needs"].items():
            own = [one for one in tested if name in (one.contrast, *one.also)]
            absent = absent or not own
            parts += [(one, expected, _met(one, expected)) for one in own]
        verdicts = {met for _, _, met in parts}
        if not parts:
            continue
        if NOT_SUPPORTED in verdicts:
            verdict = NOT_SUPPORTED
        else:
            verdict = OPEN if absent or OPEN in verdicts else SUPPORTED
        found.append(Judged(claim["text"], verdict, tuple(parts)))
    return found


def _met(one: Tested, expected: str) -> str:
    good: tuple[str, ...]
    bad: tuple[str, ...]
    if expected == "holds":
        good, bad = (EQUIVALENT, NOT_INFERIOR), (NOT_EQUIVALENT, INFERIOR)
    else:
        if expected in ("better", "worse") and one.better not in ("higher", "lower"):
            return OPEN
        upwards = expected == "higher" or ((expected == "better") == (one.better == "higher") and expected != "lower")
        good, bad = ((HIGHER,), (LOWER, NONE_OF_SIZE)) if upwards else ((LOWER,), (HIGHER, NONE_OF_SIZE))
    return SUPPORTED if one.found in good else NOT_SUPPORTED if one.found in bad else OPEN


def claims_html(judged: Sequence[Judged]) -> str:
    """A row for each claim; what it stands on can be opened."""
    if not judged:
        return ""
    rows = ""
    for one in judged:
        counts = Counter(met for _, _, met in one.parts)
        summary = ", ".join(f"{counts[word]} {word}" for word in (SUPPORTED, NOT_SUPPORTED, OPEN) if counts[word])
        evidence = "".join(f"<li>{_evidence(*part)}</li>" for part in one.parts)
        star = ' class="word star"' if one.verdict == SUPPORTED else ' class="word"'
        rows += (
            f'<tr><td class="word">{esc(one.text)}</td><td{star}>{one.verdict}</td>'
            f'<td class="word"><details><summary>{summary}</summary><ul>{evidence}</ul></details></td></tr>'
        )
    caption = (
        "A claim is supported where every comparison that it stands on is shown at 5 %, corrected in the primary "
        "family. It is not supported where one is shown to be otherwise. Nothing shown is no evidence for either."
    )
    head = '<th class="word">claim</th><th class="word">verdict</th><th class="word">evidence</th>'
    return (
        f'<p class="note">{caption}</p><div class="scroll"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div>"
    )


def _evidence(one: Tested, expected: str, met: str) -> str:
    gap = one.difference
    text = "–" if math.isnan(gap.mean) else f"{gap.mean:+.3g}"
    text += "" if math.isnan(gap.low) else f" ({gap.low:.3g} to {gap.high:.3g})"
    family = "" if one.primary else ", exploratory"
    sides = f"{one.of} against {one.against}, {one.evaluation}"
    return esc(f"{sides}: expected {expected}, found {one.found}, {text}{family}: {met}")
