"""Speed of the data side: `python benchmarks/data.py [--out F.json]`. Needs no mirror: texts are made here."""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from table import report, row

from sgtr_jax import nano
from sgtr_jax.data.build import PairsBuild, build_set
from sgtr_jax.data.chat import ChatFormat
from sgtr_jax.data.records import Record
from sgtr_jax.data.token_cache import tokenize_all
from sgtr_jax.data.tokenizer import load_tokenizer

ARTICLES, ROWS = 2000, 20_000


def main() -> int:
    """Measure, print the table, write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="JSON to write")
    args = parser.parse_args()
    built = _build_pairs()
    plain, together, again = _tokenize()
    report(
        [
            row("sgtr_2000_articles", built, 10.0, "aim", "s", 10.0 / built, 1.0, "the classifiers of the report"),
            row("tokenise_20000", together, plain, "row by row", "s", plain / together, 1.0,
                "rendering the template, in Python on one core"),
            row("tokenise_again", again, plain, "row by row", "s", plain / again, 1.0, "hashing the rows"),
        ],
        args.out,
    )  # fmt: skip
    return 0


def _words(draw: random.Random, least: int, most: int) -> str:
    return " ".join(f"w{int(draw.paretovariate(0.7)) % 9000}" for _ in range(draw.randint(least, most)))


def _build_pairs() -> float:
    draw = random.Random(0)
    with tempfile.TemporaryDirectory() as folder:
        paths: dict[str, Any] = {}
        for name, least, most in (("articles", 150, 900), ("own", 18, 40), ("other", 22, 60)):
            paths[name] = Path(folder) / f"{name}.json"
            paths[name].write_text(json.dumps({f"a{i}": _words(draw, least, most) for i in range(ARTICLES)}))
        recipe = PairsBuild(articles=str(paths["articles"]), own=str(paths["own"]), others=(str(paths["other"]),))
        begun = time.perf_counter()
        records, _ = build_set(recipe)
        assert len(records) == 2 * ARTICLES
        return time.perf_counter() - begun


def _tokenize() -> tuple[float, float, float]:
    draw = random.Random(1)
    records = [
        Record(str(i), ({"role": "user", "content": _words(draw, 5, 30)},
                        {"role": "assistant", "content": _words(draw, 5, 30) + f" {time.time_ns()}"}))
        for i in range(ROWS)
    ]  # fmt: skip
    chat = ChatFormat(load_tokenizer(nano.FOLDER))
    seconds = []
    for work in (
        lambda: [chat.tokenize(record.messages) for record in records],
        lambda: tokenize_all(records, chat),
        lambda: tokenize_all(records, chat),
    ):
        begun = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - begun)
    return seconds[0], seconds[1], seconds[2]


if __name__ == "__main__":
    sys.exit(main())
