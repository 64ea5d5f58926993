"""Pages made from the code when the site is built (`make docs`): commands, settings, models, data sets, evaluations."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from mkdocs.structure.files import File, Files

sys.path.insert(0, str(Path(__file__).parent))  # MkDocs loads this file alone, without its neighbours

from evaluations_page import evaluations_page
from file_map import file_map_page
from models_page import models_page
from settings_page import settings_page


def on_files(files: Files, config: Any) -> Files:
    """MkDocs calls this with the pages that are written by hand."""
    pages = {
        "reference/commands.md": commands(),
        "reference/config.md": settings_page(),
        "reference/data-sets.md": data_sets(),
        "reference/evaluations.md": evaluations_page(),
        "reference/files.md": file_map_page(),
        "reference/models.md": models_page(),
    }
    for name, text in pages.items():
        files.append(File.generated(config, name, content=text))
    return files


def commands() -> str:
    """The help of every command."""
    from sgtr_jax.cli.main import make_parser

    lines = [
        "# Commands",
        "",
        "Exit codes: 0 done, 2 wrong input (nothing expensive has begun), 1 failure, 130 interrupted.",
    ]
    for words, parser in _leaves(make_parser(), ["sgtr"]):
        parser.formatter_class = lambda prog: argparse.RawDescriptionHelpFormatter(prog, width=100)
        lines += ["", f"## {' '.join(words)}", "", "```text", parser.format_help().strip(), "```"]
    return "\n".join(lines) + "\n"


def _leaves(parser: argparse.ArgumentParser, words: list[str]) -> Iterator[tuple[list[str], argparse.ArgumentParser]]:
    inner = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    if not inner:
        yield words, parser
    for action in inner:
        for name, sub in action.choices.items():
            yield from _leaves(sub, [*words, name])


def data_sets() -> str:
    """A line for every set of the registry."""
    from sgtr_jax.data.registry import registry
    from sgtr_jax.files import read_jsonl

    lines = [
        "# Data sets", "",
        "None of these data sets is part of the project. `sgtr data fetch NAME` downloads one from its authors and "
        "checks its rows and digest. A set that is marked harmful has text that makes models worse on purpose.", "",
        "Tokens are counted with the tokenizer of Qwen2.5: conversations under its chat template with its default "
        "system prompt, other sets as plain text. `sgtr data tokens --model FOLDER --json` counts them for any model. "
        "Sets that were not available have no count.",
        "", "| name | kind | rows | tokens | longest row | licence | harmful | from | what it is |",
        "|---|---|---:|---:|---:|---|---|---|---|",
    ]  # fmt: skip
    stored = read_jsonl(Path(__file__).parent / "tokens-qwen2.5.jsonl")
    counted = {row["name"]: row for _, row in stored}
    for name, one in sorted(registry().items(), key=lambda item: (item[1].kind, item[0])):
        tokens, longest = (f"{counted[name][key]:,}" if name in counted else "" for key in ("total", "most"))
        lines.append(
            f"| `{name}` | {one.kind} | {one.rows:,} | {tokens} | {longest} | {one.licence} | "
            f"{'yes' if one.harmful else ''} | {_origin(one.source)} | {one.about} |"
        )
    return "\n".join(lines) + "\n"


def _origin(source: Any) -> str:
    """Where a set comes from, as a link where there is one."""
    from sgtr_jax.data.registry import BuiltSource, HubSource, RepositorySource, UrlSource

    if isinstance(source, UrlSource):
        return f"[{urlsplit(source.url).path.rsplit('/', 1)[-1]}]({source.url})"
    if isinstance(source, HubSource):
        at = f" at {source.revision[:12]}" if source.revision else ""
        return f"hub {source.hub}{at}"
    if isinstance(source, RepositorySource):
        return f"{source.path} of {source.repository} at {source.revision[:12]}"
    return f"built here: {source.built['kind']}" if isinstance(source, BuiltSource) else source.typed
