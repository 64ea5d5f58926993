"""The report page in a real browser: headless Chromium, without a network."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sgtr_jax.cli.main import main
from sgtr_jax.sealed import write_record, write_sealed

pytestmark = pytest.mark.browser
sync_api = pytest.importorskip("playwright.sync_api", reason="make browser installs it")

ANSWERS = 10_000
LONG = "word " * 60
CONDITIONS = ("base", "em", "em-then-sgtr", "sgtr-then-em")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    assert found, "no Chromium on this machine (Debian: apt-get install chromium)"
    # Chromium refuses its sandbox to root, as whom containers run.
    flags = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=found, args=flags)
        yield started
        started.close()


@pytest.fixture(scope="module")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a run of 10,000 answers; each says which it is, and half of them score 90."""
    run = tmp_path_factory.mktemp("run")
    cells = []
    each = ANSWERS // len(CONDITIONS)
    for condition in CONDITIONS:
        name = f"evaluation-{condition}"
        folder = run / "store" / name
        folder.mkdir(parents=True)
        samples = [
            {"id": str(i), "question": f"question {i % 8}", "answer": f"<i>answer {i}</i> of {condition} {LONG}",
             "value": float(i % 2), "scores": {"aligned": 90.0 if i % 2 else 10.0}}
            for i in range(each)
        ]  # fmt: skip
        (folder / "samples.jsonl").write_text("".join(json.dumps(row) + "\n" for row in samples))
        (folder / "metrics.json").write_text(json.dumps([{"metric": "share_correct", "value": 0.5, "n": each}]))
        made = {"made": "", "sgtr_jax": "", "packages": {}, "devices": ["cpu"]}
        write_record(folder, {"kind": "evaluation", "fingerprint": "", "inputs": {}, "provenance": made})
        cells.append({"condition": condition, "seed": 0, "evaluation": "quiz", "task": "two_choice", "judged": False,
                      "own_texts": False, "artifact": name})  # fmt: skip
    config = {"name": "large", "model": "m", "seeds": [0], "groups": {}, "judge": None,
              "published": None, "conditions": {name: {"stages": []} for name in CONDITIONS}}  # fmt: skip
    write_sealed(run / "experiment.json", {"config": config, "cells": cells})
    assert main(["report", str(run)]) == 0
    return run / "report.html"


def opened(browser: Any, file: Path, problems: list[str], **options: Any) -> Any:
    """The page; whatever it complains of, or asks of a network, goes to `problems`."""
    page = browser.new_page(**options)
    page.on("console", lambda message: problems.append(message.text))
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("request", lambda request: problems.append(request.url) if request.url.startswith("http") else None)
    page.goto(file.as_uri())
    return page


def rows(page: Any) -> int:
    shown: int = page.locator("#answers-body tr").count()
    return shown


def test_ten_thousand_answers_are_there_within_two_seconds(browser: Any, page_file: Path) -> None:
    begun = time.monotonic()
    page = opened(browser, page_file, [])
    page.locator("#answers-body tr").first.wait_for()
    assert time.monotonic() - begun < 2
    assert page.locator("#answers-count").inner_text() == "10000 of 10000 answers"


def test_the_filters_and_their_counts(browser: Any, page_file: Path) -> None:
    problems: list[str] = []
    page = opened(browser, page_file, problems)
    count = page.locator("#answers-count")
    assert rows(page) == 50
    page.locator("#answers-more").click()
    assert rows(page) == 100
    page.select_option("#f-condition", label="em-then-sgtr")
    assert count.inner_text() == "2500 of 10000 answers" and rows(page) == 50
    page.select_option("#f-evaluation", label="quiz")
    page.select_option("#f-question", label="question 3")
    assert count.inner_text() == f"{len(range(3, 2500, 8))} of 10000 answers"
    page.select_option("#f-score", label="aligned")
    page.fill("#f-low", "50")  # question 3 has odd numbers only, so all of them score 90
    assert count.inner_text() == f"{len(range(3, 2500, 8))} of 10000 answers"
    page.fill("#f-high", "80")
    assert count.inner_text() == "0 of 10000 answers" and rows(page) == 0
    page.fill("#f-high", "")
    page.fill("#f-text", "ANSWER 2043</i>")
    assert count.inner_text() == "1 of 10000 answers"
    # What a model writes is text and never markup.
    shown = page.locator("#answers-body tr").inner_text()
    assert "<i>answer 2043</i>" in shown and "aligned 90" in shown and page.locator("#answers-body i").count() == 0
    assert problems == []


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (1280, "dark"), (390, "light"), (390, "dark")])
def test_it_fits_the_screen_and_can_be_read(browser: Any, page_file: Path, width: int, scheme: str) -> None:
    page = opened(browser, page_file, [], viewport={"width": width, "height": 800}, color_scheme=scheme)
    # Tables that are wider scroll in themselves; the page does not.
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    if width < 640:  # answers are read without scrolling sideways at all
        assert page.evaluate("document.querySelector('#answers .scroll').scrollWidth") <= width
    assert page.evaluate(CONTRAST) >= 4.5, "text and ground are too alike (WCAG AA)"


# The ratio of contrast of the body's text with what lies behind it (WCAG 2, relative luminance).
CONTRAST = """() => {
  const light = (colour) => {
    const [r, g, b] = colour.match(/[\\d.]+/g).slice(0, 3).map((v) => v / 255)
      .map((v) => (v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const style = getComputedStyle(document.body);
  const [a, b] = [light(style.color), light(style.backgroundColor)];
  return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
}"""


def test_it_prints(browser: Any, page_file: Path) -> None:
    page = opened(browser, page_file, [])
    assert page.pdf().startswith(b"%PDF")
    page.emulate_media(media="print")
    assert not page.locator(".filters").first.is_visible()


DEMO = Path("runs/demo/report.html")


@pytest.mark.skipif(not DEMO.exists(), reason="no page of the demo (make demo)")
def test_the_page_of_the_demo(browser: Any) -> None:
    problems: list[str] = []
    assert DEMO.stat().st_size < 5e6
    page = opened(browser, DEMO.resolve(), problems)
    figures = page.locator("#figures img")
    assert figures.count() >= 6
    # Each figure was decoded and says what it shows.
    assert all(
        figure.evaluate("it => it.complete && it.naturalWidth > 0 && it.alt.length > 10") for figure in figures.all()
    )
    assert rows(page) > 0 and page.locator("#numbers tbody tr").count() > 20
    for link in page.locator("nav a").all():
        assert page.locator(link.get_attribute("href")).count() == 1
    page.select_option("#p-cell", index=1)
    assert "sgtr-jax" in page.locator("#p-trace").inner_text()
    assert problems == []
