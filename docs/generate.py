"""Pages made from the code when the site is built (`make docs`): commands, settings, data sets, evaluations."""

from __future__ import annotations

import argparse
import ast
import inspect
import json
import re
import textwrap
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from mkdocs.structure.files import File, Files
from pydantic import BaseModel


def on_files(files: Files, config: Any) -> Files:
    """MkDocs calls this with the pages that are written by hand."""
    pages = {
        "reference/commands.md": commands(),
        "reference/config.md": settings(),
        "reference/data-sets.md": data_sets(),
        "reference/evaluations.md": evaluations(),
    }
    for name, text in pages.items():
        files.append(File.generated(config, name, content=text))
    return files


def commands() -> str:
    """The help of every command."""
    from sgtr_jax.cli import _parser

    lines = [
        "# Commands",
        "",
        "Exit codes: 0 done, 2 bad input, 1 failure, 130 interrupted.",
    ]
    for words, parser in _leaves(_parser(), ["sgtr"]):
        parser.formatter_class = lambda prog: argparse.HelpFormatter(prog, width=100)
        lines += ["", f"## {' '.join(words)}", "", "```text", parser.format_help().strip(), "```"]
    return "\n".join(lines) + "\n"


def _leaves(parser: argparse.ArgumentParser, words: list[str]) -> Iterator[tuple[list[str], argparse.ArgumentParser]]:
    inner = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    if not inner:
        yield words, parser
    for action in inner:
        for name, sub in action.choices.items():
            yield from _leaves(sub, [*words, name])


def settings() -> str:
    """Every setting of a config file, from the types that read it."""
    from sgtr_jax.backends.config import TrainCommand
    from sgtr_jax.experiment.config import ExperimentConfig
    from sgtr_jax.sample.config import SampleCommand

    roots = {
        "An experiment (`sgtr run FILE`)": ExperimentConfig,
        "`sgtr train key=value`": TrainCommand,
        "`sgtr sample key=value`": SampleCommand,
    }
    lines = [
        "# Settings", "",
        "Files are YAML; `key=value` on the command line lays a value over one, with dots into the inside: "
        "`finetuning.lr=1e-4`. An unknown key is an error that names the nearest one. `extends: OTHER.yaml` lays a "
        "file over another.",
    ]  # fmt: skip
    seen: set[type[BaseModel]] = set()
    for title, root in roots.items():
        lines += ["", f"## {title}"]
        todo: list[type[BaseModel]] = [root]
        while todo:
            model = todo.pop(0)
            if model in seen:
                continue
            seen.add(model)
            lines += ["", f"### {model.__name__}", "", inspect.cleandoc(model.__doc__ or "").replace("\n", " "), ""]
            lines += ["| key | type | default | |", "|---|---|---|---|"]
            comments = _comments(model)
            for name, field in model.model_fields.items():
                value = None if field.is_required() else field.get_default(call_default_factory=True)
                default = "required" if field.is_required() else f"`{_shown(value)}`"
                said = comments.get(name, "").replace("|", "\\|")
                lines.append(f"| `{name}` | {_type(field.annotation)} | {default} | {said} |")
                todo += [inner for inner in _models_in(field.annotation) if inner not in seen]
    return "\n".join(lines) + "\n"


def _comments(model: type[BaseModel]) -> dict[str, str]:
    """Comments beside or right above each field, in the class or those that it is built on."""
    found: dict[str, str] = {}
    for owner in reversed(model.__mro__):
        if not (isinstance(owner, type) and issubclass(owner, BaseModel)) or owner is BaseModel:
            continue
        source = textwrap.dedent(inspect.getsource(owner))
        lines = source.splitlines()
        for node in ast.parse(source).body[0].body:  # type: ignore[attr-defined]
            if not isinstance(node, ast.AnnAssign) or not isinstance(node.target, ast.Name):
                continue
            beside = re.search(r"#\s*(.*)$", lines[(node.end_lineno or node.lineno) - 1])
            above, at = [], node.lineno - 2
            while at >= 0 and lines[at].strip().startswith("#"):
                above.insert(0, lines[at].strip().lstrip("# "))
                at -= 1
            text = " ".join([*above, *([beside.group(1)] if beside else [])])
            text = text.removeprefix("What follows changes speed and memory. ")
            if text and "fmt: skip" not in text:
                found[node.target.id] = text
    return found


def _type(annotation: Any) -> str:
    return f"`{_words(annotation)}`"


def _words(annotation: Any) -> str:
    """A type as people write it: `int or null`, `drop or cut`, `list of float`."""
    origin, inner = typing.get_origin(annotation), typing.get_args(annotation)
    if annotation is type(None):
        return "null"
    if origin is typing.Annotated:
        return _words(inner[0])
    if origin is typing.Literal:
        return " or ".join(map(str, inner))
    if origin in (typing.Union, types.UnionType):
        return " or ".join(map(_words, inner))
    if origin is tuple:
        return f"list of {_words(inner[0])}"
    if origin is dict:
        return f"{{{_words(inner[0])}: {_words(inner[1])}}}"
    return {"str": "text", "bool": "true or false"}.get(annotation.__name__, str(annotation.__name__))


def _shown(value: Any) -> str:
    if isinstance(value, BaseModel):
        return "as below"
    if isinstance(value, dict | tuple):
        return json.dumps(value)
    return json.dumps(value) if value is None or isinstance(value, bool) else str(value)


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in typing.get_args(annotation):
        yield from _models_in(inner)


def data_sets() -> str:
    """A line for every set of the registry."""
    from sgtr_jax.data.registry import registry
    from sgtr_jax.files import read_jsonl

    lines = [
        "# Data sets", "",
        "None of these is part of the project; `sgtr data fetch NAME` brings one from where its authors keep it and "
        "checks rows and digest. Sets marked harmful hold text that makes models worse on purpose.", "",
        "Tokens are those of Qwen2.5: conversations under its chat template, with its default system prompt in each, "
        "other sets as bare text. They were counted with `sgtr data tokens --model FOLDER --json` on the sets that "
        "could be had; the same command counts for another model, such as Seed-OSS, whose tokenizer was not at hand.",
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


def evaluations() -> str:
    """What each task does, with its arguments and their defaults."""
    from sgtr_eval import registry as tasks

    lines = [
        "# Evaluations", "",
        "Inspect AI tasks: `inspect eval sgtr_eval/NAME --model sgtr/FOLDER -T key=value`, "
        "`sgtr eval NAME --model M NAME.key=value`, or under `evaluations:` of an experiment.",
    ]  # fmt: skip
    for name in tasks.__all__:
        if not name[0].islower():  # a provider
            continue
        made = getattr(tasks, name)
        lines += ["", f"## {name}", "", inspect.cleandoc(made.__doc__ or ""), ""]
        lines += ["| argument | default |", "|---|---|"]
        for key, parameter in inspect.signature(made).parameters.items():
            default = "required" if parameter.default is inspect.Parameter.empty else f"`{parameter.default!r}`"
            lines.append(f"| `{key}` | {default} |")
    return "\n".join(lines) + "\n"
