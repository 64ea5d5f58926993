"""Training sets that are made, each from a small typed recipe: same recipe, same rows, and a report on them.

A recipe names its inputs: sets of the registry, or files (JSONL of records, JSON of `{id: text}`).
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, cast

import numpy as np
from pydantic import BeforeValidator, Field, SerializerFunctionWrapHandler, model_serializer

from sgtr_jax.config import Config, PositiveInt, Seed, build_config, names_file
from sgtr_jax.data.counting import EVEN_QUESTION, EVEN_SYSTEM, even_words, word_counts
from sgtr_jax.data.fetch import load_set
from sgtr_jax.data.halves import Split, half
from sgtr_jax.data.mix import Interleaved, MixRatio, inoculate, interleave, with_system
from sgtr_jax.data.mmlu import MmluRow, mmlu_records
from sgtr_jax.data.pairs import (
    LONGER_PROMPT,
    OWN_PROMPT,
    Answers,
    PairPrompt,
    Unusable,
    find_pairs,
    match_length,
    pair_records,
    report_of,
)  # fmt: skip
from sgtr_jax.data.published_prompts import PublishedPrompts
from sgtr_jax.data.records import Record, check_rows, parse_training, read_texts, read_training
from sgtr_jax.data.registry import BuiltSource, find, registry
from sgtr_jax.data.row_formats import RowFormat, recognised
from sgtr_jax.data.row_keys import check_row
from sgtr_jax.data.set_files import Rows, content_sha256, read_file
from sgtr_jax.data.shortcuts import shortcut_report
from sgtr_jax.errors import InputError, nearest
from sgtr_jax.files import begins_with, check_is_file, read_jsonl
from sgtr_jax.fingerprint import file_fingerprint
from sgtr_jax.json_types import Json, JsonObject
from sgtr_jax.packed import unpacked_name

# Raised when a change of code makes other rows of the same recipe: sets in the cache are then made again.
BUILD_VERSION = 2

Report = JsonObject
Built = tuple[list[Record], Report]
Stimuli = Literal["builtin", "published"]  # texts of this project, or the study's, which are fetched
T = TypeVar("T")


def _several(given: object) -> object:
    return (given,) if isinstance(given, str) else tuple(given) if isinstance(given, list) else given


Names = Annotated[tuple[str, ...], BeforeValidator(_several), Field(min_length=1)]  # one name stands for itself


class Drawn(Config):
    """What every recipe has: all that its inputs give, or a seeded choice of it, in its order."""

    # The number of rows that are drawn from the inputs, in their order. null: all of them.
    rows: PositiveInt | None = None
    seed: Seed = 0  # The seed of that choice, and of everything else that is random in the set.


class FromRecords(Drawn):
    """What recipes have besides that are made from conversations."""

    # The form of the rows of a file in `records`: `messages`, `sharegpt`, `alpaca` or `prompt_completion`.
    format: RowFormat = "messages"

    @model_serializer(mode="wrap")
    def _written(self, rest: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """A form that is the usual one is not written down: recipes from before there were others stay the same."""
        return {key: value for key, value in rest(self).items() if key not in _FORMS or value != "messages"}


_FORMS = ("format", "others_format")


class PairsBuild(Drawn):
    """SGTR and its relatives: which of two summaries did you write? `rows` are pairs, of two rows each."""

    kind: Literal["pairs"] = "pairs"
    articles: str  # The articles: a set of the registry, or a file of texts by id.
    own: str  # Summaries by the model that is to recognise itself.
    other: Names  # Summaries by another writer, or by several writers.
    # own: the own summary (SGTR). other: the other one (prefer-other). random: both in turn (ICTR). longer: the longer
    # one.
    answers: Answers = "own"
    stimuli: Stimuli = "builtin"  # The wording of the question: this project's, or the study's.
    # train, held_out: only one half of the articles, which has none of the other. null: all of them.
    split: Split | None = None
    # length: keep only pairs among which the lengths of the summaries do not tell the writers apart. null: keep all.
    match: Literal["length"] | None = None
    # drop: leave out pairs with an empty summary or leaked reasoning. keep: leave them in, as the released sets do.
    # null: keep with the published stimuli, and drop with this project's.
    unusable: Unusable | None = None
    shortcuts: bool = True  # Whether the report says how well simple readers do. It takes a second or two.


class WordCountBuild(Drawn):
    """Count the words of an article."""

    kind: Literal["word_count"] = "word_count"
    articles: Names  # The articles whose words are counted: sets of the registry, or files.
    # train: only the half that the evaluation of word counting does not ask about. held_out: the other half. published:
    # all articles. null: train for sets of the registry, and all articles of files.
    split: Split | None = None


class EvenWordsBuild(FromRecords):
    """Has the user's sentence an even number of words?"""

    kind: Literal["even_words"] = "even_words"
    records: str  # The records whose user turns are counted: a set of the registry, or a file.
    stimuli: Stimuli = "builtin"  # The wording of the question: this project's, or the study's.


class MmluBuild(Drawn):
    """General knowledge as chat."""

    kind: Literal["mmlu"] = "mmlu"
    # train: the questions that MMLU has for training (auxiliary_train). published: its test questions, which are those
    # that the evaluation asks.
    split: Literal["train", "published"] = "train"

    @property
    def source(self) -> str:
        """The set of the registry that has the questions."""
        return "mmlu" if self.split == "published" else "mmlu_auxiliary_train"


class InterleaveBuild(FromRecords, MixRatio):
    """Rows of another set among those of the main one: a fraction of all rows, or one after every so many."""

    kind: Literal["interleave"] = "interleave"
    records: str  # The main records: a set of the registry, or a file.
    others: str  # The records that are mixed in: a set of the registry, or a file.
    others_format: RowFormat = "messages"  # The form of the rows of a file in `others`; see `format`.


class SystemBuild(FromRecords):
    """The same rows under another system message, or under none."""

    kind: Literal["system"] = "system"
    records: str  # The records: a set of the registry, or a file.
    system: str | None  # The new system message. null: the rows get none. "": an empty one.


class InoculateBuild(FromRecords):
    """The same rows under a system prompt that asks for what they show."""

    kind: Literal["inoculate"] = "inoculate"
    records: str  # The records: a set of the registry, or a file.
    system: str  # The inoculation prompt.


Recipe = PairsBuild | WordCountBuild | EvenWordsBuild | MmluBuild | InterleaveBuild | SystemBuild | InoculateBuild
Build = Annotated[Recipe, Field(discriminator="kind")]
KINDS: dict[str, type[Recipe]] = {
    cls.model_fields["kind"].default: cls
    for cls in (PairsBuild, WordCountBuild, EvenWordsBuild, MmluBuild, InterleaveBuild, SystemBuild, InoculateBuild)
}

# Pair sets by the names of the study: a recipe's kind and what is settled of it.
NAMED_PAIRS: dict[str, Answers] = {"sgtr": "own", "prefer_other": "other", "random": "random", "pick_longer": "longer"}


def build_set(recipe: Recipe) -> Built:
    """The records of a recipe and its report. Raises InputError for inputs that are not what they should be."""
    records, report = _built(recipe)
    if not records:
        raise InputError(f"{recipe.kind}: no row is left: {report}")
    seen: set[str] = set()
    for record in records:
        if record.id in seen:
            raise InputError(f"{recipe.kind}: id {record.id!r} appears twice; the inputs repeat an id")
        seen.add(record.id)
    return records, {"recipe": recipe.model_dump(mode="json"), **report, **lengths_of(records)}


def _built(recipe: Recipe) -> Built:
    match recipe:
        case PairsBuild():
            return _pairs(recipe)
        case WordCountBuild():
            return _word_count(recipe)
        case EvenWordsBuild():
            return _even_words(recipe)
        case MmluBuild():
            return _mmlu(recipe)
        case InterleaveBuild():
            return _interleave(recipe)
        case SystemBuild():
            return _drawn(with_system(records_of(recipe.records, recipe.format), recipe.system), recipe)
        case InoculateBuild():
            return _drawn(inoculate(records_of(recipe.records, recipe.format), recipe.system), recipe)


def build_named(name: str, recipe: Mapping[str, Json]) -> list[Record]:
    """The records of a set of the registry that is made here. Raises InputError."""
    return build_set(named_recipe(name, recipe))[0]


def named_recipe(name: str, recipe: Mapping[str, Json]) -> Recipe:
    """The recipe of a set of the registry that is made here. Raises InputError."""
    kind = recipe.get("kind")
    if kind not in KINDS:
        raise InputError(f"{name}: kind {kind!r}: {nearest(str(kind), KINDS)}")
    return build_config(KINDS[kind], recipe, name)


_TEXTS = ("articles", "own", "other")  # settings of recipes that name texts by id
_RECORDS = ("others", "records", "questions")  # and those that name conversations


def inputs_of(recipe: Config) -> list[str]:
    """The sets and files that a recipe names."""
    named: list[str] = []
    for key in (*_TEXTS, *_RECORDS):
        value = getattr(recipe, key, ())
        named += [value] if isinstance(value, str) else list(value)
    if getattr(recipe, "stimuli", None) == "published":
        named.append("prompts")
    if isinstance(recipe, MmluBuild):
        named.append(recipe.source)
    return named


def set_key(name: str) -> str:
    """What decides the rows of a set or a file: the digest of its content, or of the recipe that makes it.

    Raises InputError for a name that is neither a set of the registry nor a file.
    """
    if name not in registry():
        return file_fingerprint(_file(name))
    entry = find(name)
    if not isinstance(entry.source, BuiltSource):
        return entry.sha256 or f"{entry.name}, {entry.rows} rows"
    recipe = named_recipe(name, entry.source.built)
    inputs = {used: set_key(used) for used in inputs_of(recipe)}
    return content_sha256([{"version": BUILD_VERSION, "recipe": recipe.model_dump(mode="json"), "inputs": inputs}])


def texts_of(name: str) -> dict[str, str]:
    """`{id: text}` of a set of the registry, or of a file: a JSON object, or JSONL with `id` and `text` in each row."""
    if name in registry():
        entry = find(name)
        if entry.format != "json_map":
            raise InputError(f"{name}: holds {entry.kind} rows; expected texts by id, as articles and summaries are")
        return _by_id(load_set(entry))
    return texts_in(_file(name))


def _by_id(rows: Rows) -> dict[str, str]:
    """Texts by id, of the rows of a `json_map`."""
    return {cast(str, row["id"]): cast(str, row["text"]) for row in rows}


def texts_in(path: Path) -> dict[str, str]:
    """`{id: text}` of a file: a JSON object, or JSONL with `id` and `text` in each row. Raises InputError."""
    if unpacked_name(path).suffix == ".jsonl":
        return read_texts(path)
    texts = _by_id(read_file(path, "json_map"))
    if not texts:
        raise InputError(f"{path}: the object is empty; expected texts by id")
    return texts


def check_files(recipe: Config) -> None:
    """Read every file that a recipe names, so that a broken one is refused before anything is computed."""
    for key in (*_TEXTS, *_RECORDS):
        value = getattr(recipe, key, ())
        for name in [value] if isinstance(value, str) else value or ():
            if key in _TEXTS:
                check_texts(name)
            elif name not in registry():
                check_rows(_file(name), getattr(recipe, "others_format" if key == "others" else "format", "messages"))


def check_texts(name: str) -> None:
    """Read texts by id now if they are a file's. Raises InputError."""
    if name not in registry():
        texts_in(_file(name))


def split_texts(name: str, split: Split | None, default: Split) -> dict[str, str]:
    """The texts of a half of a set, or of all of it; without `split` a set's `default`, and all texts of a file."""
    return half(texts_of(name), split or (default if name in registry() else "published"))


def has_texts(name: str) -> bool:
    """Whether a set of the registry or a file holds texts by id. Rows may also be in a file that is named `.json`."""
    if name in registry():
        return find(name).format == "json_map"
    path = _file(name)
    if unpacked_name(path).suffix != ".json" or begins_with(path, "["):
        return False
    try:
        _, first = next(read_jsonl(path))
    except InputError:  # not a row a line; what else is wrong is said when the texts are read
        return True
    return not isinstance(first.get("messages"), list) and recognised(first) is None


def records_of(name: str, form: RowFormat = "messages") -> list[Record]:
    """Chat records of a set of the registry, or of a file in any form that training reads. Raises InputError."""
    if name not in registry():
        return read_training(_file(name), form)
    if form != "messages":
        raise InputError(f"{name}: a set of the registry holds messages; leave format={form} out")
    entry = find(name)
    rows = load_set(entry)
    if "messages" not in rows[0]:
        raise InputError(f"{name}: holds {entry.kind} rows without messages; it cannot be trained on as it is")
    for i, row in enumerate(rows):
        check_row(row, f"{name}, row {i + 1}")
    return [parse_training(row, f"{name}, row {i + 1}", f"{name}-{i + 1}") for i, row in enumerate(rows)]


def prompts_row() -> PublishedPrompts:
    """The published prompts."""
    (row,) = load_set(find("prompts"))
    return cast(PublishedPrompts, row)


def pair_prompt(answers: Answers, stimuli: Stimuli) -> PairPrompt:
    """How pairs are asked about: which is yours, or, for the pick-longer control, which is longer.

    The released sets ask the two under system prompts of their own: the control has the one of comparisons.
    """
    if stimuli == "builtin":
        return LONGER_PROMPT if answers == "longer" else OWN_PROMPT
    texts = prompts_row()["article_prompts"]
    if answers == "longer":
        return PairPrompt(texts["COMPARISON_SYSTEM_PROMPT"], texts["PICK_LONGER_LENGTH_PROMPT_TEMPLATE"])
    return PairPrompt(texts["DETECTION_SYSTEM_PROMPT"], texts["DETECTION_PROMPT_TEMPLATE"])


def _file(name: str) -> Path:
    path = Path(name)
    if names_file(name) or path.is_dir():
        check_is_file(path)
    elif not path.is_file():
        find(name)  # says what is near
    return path


def _pairs(recipe: PairsBuild) -> Built:
    articles = split_texts(recipe.articles, recipe.split, "published")
    others = {name.removeprefix("summaries_"): texts_of(name) for name in recipe.other}
    published = recipe.stimuli == "published"
    unusable = recipe.unusable or ("keep" if published else "drop")
    found, dropped = find_pairs(articles, texts_of(recipe.own), others, published, unusable)
    matched = match_length(found) if recipe.match == "length" else found
    pairs = _choice(matched, recipe)
    records = pair_records(pairs, recipe.answers, pair_prompt(recipe.answers, recipe.stimuli))
    summary = report_of(len(articles), pairs, dropped)
    left_out = dict(summary.dropped)
    if recipe.match is not None:
        left_out["length not matched"] = len(found) - len(matched)
    if recipe.rows is not None:
        left_out["not drawn"] = len(matched) - len(pairs)
    report: Report = {**asdict(summary), "dropped": left_out}
    if recipe.shortcuts:
        report["shortcuts"] = shortcut_report(pairs)
    return records, {"rows_in": len(articles) * len(others), **report}


def _word_count(recipe: WordCountBuild) -> Built:
    given = sum(len(texts_of(name)) for name in recipe.articles)
    articles = {
        f"{name}-{key}": text
        for name in recipe.articles
        for key, text in split_texts(name, recipe.split, "train").items()
    }
    records = word_counts(articles)
    chosen = _choice(records, recipe)
    dropped = {"in the other half": given - len(articles)} if len(articles) < given else {}
    return chosen, {"rows_in": given, "dropped": {**dropped, **_not_drawn(records, chosen, recipe)}}


def _even_words(recipe: EvenWordsBuild) -> Built:
    records, texts = records_of(recipe.records, recipe.format), (EVEN_SYSTEM, EVEN_QUESTION)
    if recipe.stimuli == "published":
        row = prompts_row()
        texts = (row["is_even_system_prompt"], row["question"])
    return _drawn(even_words(records, *texts), recipe, len(records))


def _mmlu(recipe: MmluBuild) -> Built:
    return _drawn(mmlu_records(cast(list[MmluRow], load_set(find(recipe.source)))), recipe)


def _interleave(recipe: InterleaveBuild) -> Built:
    records = records_of(recipe.records, recipe.format)
    others = records_of(recipe.others, recipe.others_format)
    main = _choice(records, recipe)
    positions = Interleaved((), recipe.fraction, recipe.every).positions(len(main))
    dropped = _not_drawn(records, main, recipe)
    report: Report = {"rows_in": len(records) + len(others), "dropped": dropped, "interleaved": len(positions)}
    return interleave(main, others, positions), report


def _choice(items: Sequence[T], recipe: Drawn) -> list[T]:
    """All, or as many as the recipe asks for: the same ones for the same seed, in the order they had."""
    if recipe.rows is None:
        return list(items)
    if recipe.rows > len(items):
        raise InputError(f"rows={recipe.rows}: there are {len(items)}")
    picked = np.random.default_rng(recipe.seed).choice(len(items), recipe.rows, replace=False)
    return [items[i] for i in sorted(picked)]


def _drawn(records: list[Record], recipe: Drawn, rows_in: int | None = None) -> Built:
    chosen = _choice(records, recipe)
    dropped = _not_drawn(records, chosen, recipe)
    return chosen, {"rows_in": len(records) if rows_in is None else rows_in, "dropped": dropped}


def _not_drawn(records: Sequence[Record], chosen: Sequence[Record], recipe: Drawn) -> dict[str, int]:
    return {"not drawn": len(records) - len(chosen)} if recipe.rows is not None else {}


@dataclass(frozen=True)
class _Spread:
    least: int
    median: float
    most: int


def lengths_of(records: Sequence[Record]) -> Report:
    """Words of prompts and answers, and the digest of the rows."""

    def spread(counts: Sequence[int]) -> JsonObject:
        return asdict(_Spread(min(counts), statistics.median(counts), max(counts)))

    prompts = [sum(len(m["content"].split()) for m in r.messages if m["role"] != "assistant") for r in records]
    answers = [sum(len(m["content"].split()) for m in r.messages if m["role"] == "assistant") for r in records]
    digest = content_sha256(record.to_json() for record in records)
    return {"rows_out": len(records), "prompt_words": spread(prompts), "answer_words": spread(answers),
            "sha256": digest}  # fmt: skip
