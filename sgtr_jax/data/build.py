"""Training sets that are made, each from a small typed recipe: same recipe, same rows, and a report on them.

A recipe names its inputs: sets of the registry, or files (JSONL of records, JSON of `{id: text}`).
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, NonNegativeInt

from sgtr_jax.config import Config, PositiveInt, build
from sgtr_jax.data.batches import Interleaved
from sgtr_jax.data.counting import even_words, word_counts
from sgtr_jax.data.fetch import load
from sgtr_jax.data.formats import content_sha256, read_file
from sgtr_jax.data.mix import Share, inoculate, interleave, with_system
from sgtr_jax.data.mmlu import mmlu_records
from sgtr_jax.data.pairs import (
    LONGER_PROMPT,
    OWN_PROMPT,
    Answers,
    PairPrompt,
    find_pairs,
    match_length,
    pair_records,
    report_of,
)  # fmt: skip
from sgtr_jax.data.records import Record, parse_training, read_training
from sgtr_jax.data.registry import find, registry
from sgtr_jax.data.shortcuts import shortcut_report
from sgtr_jax.errors import InputError, nearest

Report = dict[str, Any]
Built = tuple[list[Record], Report]


class PairsBuild(Config):
    """SGTR and its relatives: which of two summaries did you write?"""

    kind: Literal["pairs"] = "pairs"
    articles: str
    own: str  # summaries by the model that is to recognise itself
    others: Annotated[tuple[str, ...], Field(min_length=1)]  # summaries by other writers
    answers: Answers = "own"  # other: prefer-other; random: ICTR; longer: the pick-longer control
    prompts: Literal["own", "published"] = "own"
    match: Literal["length"] | None = None
    shortcuts: bool = True  # whether the report says how well simple readers do; takes a second or two


class WordCountBuild(Config):
    """Count the words of an article."""

    kind: Literal["word_count"] = "word_count"
    articles: Annotated[tuple[str, ...], Field(min_length=1)]


class EvenWordsBuild(Config):
    """Has the user's sentence an even number of words? In the published words."""

    kind: Literal["even_words"] = "even_words"
    records: str


class MmluBuild(Config):
    """General knowledge as chat."""

    kind: Literal["mmlu"] = "mmlu"
    rows: PositiveInt | None = None  # null: all; else a seeded choice
    seed: NonNegativeInt = 0


class InterleaveBuild(Share):
    """Rows of another set among those of the main one: a fraction of all rows, or one after every so many."""

    kind: Literal["interleave"] = "interleave"
    records: str
    others: str


class SystemBuild(Config):
    """The same rows under another system message, or under none."""

    kind: Literal["system"] = "system"
    records: str
    system: str | None  # null: popped; "": an empty one


class InoculateBuild(Config):
    """The same rows under a system prompt that asks for what they show."""

    kind: Literal["inoculate"] = "inoculate"
    records: str
    system: str


Build = Annotated[
    PairsBuild | WordCountBuild | EvenWordsBuild | MmluBuild | InterleaveBuild | SystemBuild | InoculateBuild,
    Field(discriminator="kind"),
]
KINDS: dict[str, type[Config]] = {
    cls.model_fields["kind"].default: cls
    for cls in (PairsBuild, WordCountBuild, EvenWordsBuild, MmluBuild, InterleaveBuild, SystemBuild, InoculateBuild)
}


def build_set(recipe: Any) -> Built:
    """The records of a recipe and its report. Raises InputError for inputs that are not what they should be."""
    makers: dict[str, Callable[[Any], Built]] = {
        "pairs": _pairs,
        "word_count": _word_count,
        "even_words": _even_words,
        "mmlu": _mmlu,
        "interleave": _interleave,
        "system": lambda r: _plain(with_system(records_of(r.records), r.system)),
        "inoculate": lambda r: _plain(inoculate(records_of(r.records), r.system)),
    }
    records, report = makers[recipe.kind](recipe)
    if not records:
        raise InputError(f"{recipe.kind}: no row is left: {report}")
    seen: set[str] = set()
    for record in records:
        if record.id in seen:
            raise InputError(f"{recipe.kind}: id {record.id!r} appears twice; the inputs repeat an id")
        seen.add(record.id)
    return records, {"recipe": recipe.model_dump(mode="json"), **report, **_lengths(records)}


def build_named(name: str, recipe: dict[str, Any]) -> list[Record]:
    """The records of a set of the registry that is made here. Raises InputError."""
    kind = recipe.get("kind")
    if kind not in KINDS:
        raise InputError(f"{name}: kind {kind!r}: {nearest(str(kind), KINDS)}")
    return build_set(build(KINDS[kind], recipe, name))[0]


def inputs_of(recipe: Config) -> list[str]:
    """The sets and files that a recipe names."""
    named: list[str] = []
    for key in ("articles", "own", "others", "records"):
        value = getattr(recipe, key, ())
        named += [value] if isinstance(value, str) else list(value)
    if getattr(recipe, "prompts", None) == "published" or recipe.__class__ is EvenWordsBuild:
        named.append("prompts")
    if recipe.__class__ is MmluBuild:
        named.append("mmlu")
    return named


def texts_of(name: str) -> dict[str, str]:
    """`{id: text}` of a set of the registry, or of a JSON file."""
    if name in registry():
        entry = find(name)
        if entry.format != "json_map":
            raise InputError(f"{name}: holds {entry.kind} rows; expected texts by id, as articles and summaries are")
        return {row["id"]: row["text"] for row in load(entry)}
    return {row["id"]: row["text"] for row in read_file(_file(name), "json_map")}


def records_of(name: str) -> list[Record]:
    """Chat records of a set of the registry, or of a JSONL file."""
    if name not in registry():
        return read_training(_file(name))
    entry = find(name)
    rows = load(entry)
    if "messages" not in rows[0]:
        raise InputError(f"{name}: holds {entry.kind} rows without messages; it cannot be trained on as it is")
    return [parse_training(row, f"{name}, row {i + 1}", f"{name}-{i + 1}") for i, row in enumerate(rows)]


def prompts_row() -> dict[str, Any]:
    """The published prompts."""
    (row,) = load(find("prompts"))
    return row


def pair_prompt(answers: Answers, prompts: str) -> PairPrompt:
    """How pairs are asked about: which is yours, or, for the pick-longer control, which is longer."""
    if prompts == "own":
        return LONGER_PROMPT if answers == "longer" else OWN_PROMPT
    texts = prompts_row()["article_prompts"]
    template = "PICK_LONGER_LENGTH_PROMPT_TEMPLATE" if answers == "longer" else "DETECTION_PROMPT_TEMPLATE"
    return PairPrompt(texts["DETECTION_SYSTEM_PROMPT"], texts[template])


def _file(name: str) -> Path:
    path = Path(name)
    if not path.is_file():
        find(name)  # says what is near
    return path


def _pairs(recipe: PairsBuild) -> Built:
    articles = texts_of(recipe.articles)
    others = {name.removeprefix("summaries_"): texts_of(name) for name in recipe.others}
    found, dropped = find_pairs(articles, texts_of(recipe.own), others)
    pairs = match_length(found) if recipe.match == "length" else found
    records = pair_records(pairs, recipe.answers, pair_prompt(recipe.answers, recipe.prompts))
    report: Report = asdict(report_of(len(articles), pairs, dropped))
    if recipe.match is not None:
        report["dropped"] = {**report["dropped"], "length not matched": len(found) - len(pairs)}
    if recipe.shortcuts:
        report["shortcuts"] = shortcut_report(pairs)
    return records, {"rows_in": len(articles) * len(others), **report}


def _word_count(recipe: WordCountBuild) -> Built:
    articles = {f"{name}-{key}": text for name in recipe.articles for key, text in texts_of(name).items()}
    return word_counts(articles), {"rows_in": len(articles), "dropped": {}}


def _even_words(recipe: EvenWordsBuild) -> Built:
    row, records = prompts_row(), records_of(recipe.records)
    return _plain(even_words(records, row["is_even_system_prompt"], row["question"]), len(records))


def _mmlu(recipe: MmluBuild) -> Built:
    records = mmlu_records(load(find("mmlu")))
    chosen = records
    if recipe.rows is not None:
        if recipe.rows > len(records):
            raise InputError(f"mmlu: {recipe.rows} rows asked for, there are {len(records)}")
        import numpy as np

        picked = sorted(np.random.default_rng(recipe.seed).choice(len(records), recipe.rows, replace=False))
        chosen = [records[i] for i in picked]
    return chosen, {"rows_in": len(records), "dropped": {"not drawn": len(records) - len(chosen)}}


def _interleave(recipe: InterleaveBuild) -> Built:
    records, others = records_of(recipe.records), records_of(recipe.others)
    places = Interleaved((), recipe.fraction, recipe.every).places(len(records))
    mixed = interleave(records, others, places)
    return mixed, {"rows_in": len(records) + len(others), "dropped": {}, "interleaved": len(places)}


def _plain(records: list[Record], rows_in: int | None = None) -> Built:
    return records, {"rows_in": len(records) if rows_in is None else rows_in, "dropped": {}}


@dataclass(frozen=True)
class _Spread:
    least: int
    median: float
    most: int


def _lengths(records: Sequence[Record]) -> Report:
    """Words of prompts and answers, and the digest of the rows."""

    def spread(counts: Sequence[int]) -> dict[str, Any]:
        return asdict(_Spread(min(counts), statistics.median(counts), max(counts)))

    prompts = [sum(len(m["content"].split()) for m in r.messages if m["role"] != "assistant") for r in records]
    answers = [sum(len(m["content"].split()) for m in r.messages if m["role"] == "assistant") for r in records]
    digest = content_sha256(record.to_json() for record in records)
    return {"rows_out": len(records), "prompt_words": spread(prompts), "answer_words": spread(answers),
            "sha256": digest}  # fmt: skip
