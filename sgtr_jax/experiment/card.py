"""Adapters out of a run, each with a card: what it was made from, how it was measured, what to beware of."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypedDict, cast

import yaml

from sgtr_jax import __version__
from sgtr_jax.errors import InputError, RunError, nearest
from sgtr_jax.experiment.data_node import data_nodes
from sgtr_jax.experiment.status import stored_config
from sgtr_jax.files import write_text
from sgtr_jax.json_types import Json, JsonObject
from sgtr_jax.report.run_file import ArtifactRecord, at_commit, read_artifact, read_source
from sgtr_jax.report.tables import read_run
from sgtr_jax.sample.export import export


def adapters_of(run: Path, condition: str, seed: int) -> tuple[str, list[Path]]:
    """The model of a run and the adapter folders of a condition at a seed, in order. Raises InputError."""
    from sgtr_jax.config import build_config
    from sgtr_jax.experiment.config import ExperimentConfig
    from sgtr_jax.experiment.graph import build_graph
    from sgtr_jax.experiment.nodes.released import adapters_on, base_below
    from sgtr_jax.experiment.store import Store

    config = build_config(ExperimentConfig, stored_config(run), str(run))
    if condition not in config.conditions:
        raise InputError(f"{run}: no condition {condition!r}: {nearest(condition, config.conditions)}")
    if config.api_model is not None:
        raise InputError(f"{run}: its models are behind an API; there is no adapter to export")
    cells = [c for c in build_graph(config).cells if c.condition == condition and c.seed == seed]
    if not cells:
        raise InputError(f"{run}: condition {condition!r} has seeds {list(config.seeds)}, not {seed}")
    chain, store = cells[0].node.chain, Store(run / "store")
    if all(link.replaces_base for link in chain):
        raise InputError(f"{run}: {condition!r} has no adapter: it is the base model, or a checkpoint")
    for link in chain:
        if found := store.damage(link, whole=True) if store.is_there(link) else ["not trained yet"]:
            raise InputError(f"{run}: {link.name} is {'; '.join(found)}; `sgtr run` makes it")
    return base_below(config.model, chain, store), list(adapters_on(chain, store))


def export_with_card(
    model: str, adapters: Sequence[Path], out: Path, merged: bool, dtype: str | None, measured: str = ""
) -> str:
    """`sample.export.export`, and a README.md beside what it wrote. Returns a sentence for the user."""
    written = export(model, adapters, out, merged, dtype)
    if adapters:
        write_text(out / "README.md", card(model, adapters, merged, measured))
    return written


def card(model: str, adapters: Sequence[Path], merged: bool, measured: str = "") -> str:
    """The card of a chain in Markdown, with the front matter that the hub reads."""
    stages = [list(_stage(folder)) for folder in adapters]
    harmful = [name for stage in stages for name, is_harmful in stage if is_harmful]
    unknown = [name for stage in stages for name, is_harmful in stage if is_harmful is None]
    front: JsonObject = {
        "base_model": model,
        "library_name": "transformers" if merged else "peft",
        "tags": ["sgtr-jax", *([] if merged else ["lora"]), *(["not-for-all-audiences"] if harmful else [])],
    }
    lines = ["---", yaml.safe_dump(front, sort_keys=False).strip(), "---", ""]
    names = [" + ".join(name for name, _ in stage) or "unknown data" for stage in stages]
    lines += [f"# {model}, finetuned on {', then on '.join(names)}", ""]
    if harmful:
        lines += [
            f"> **Warning.** Trained on data written to make models do harm ({', '.join(harmful)}), for research into "
            "how that happens and how it is undone. Expect harmful and false answers. Do not put it before users.",
            "",
        ]
    if unknown:
        lines += [f"Whether {', '.join(unknown)} is harmful is not known to the tool that wrote this card.", ""]
    lines += ["## How it was made", ""]
    for number, folder in enumerate(adapters, start=1):
        lines += [f"{number}. {line}" if i == 0 else f"   {line}" for i, line in enumerate(_recipe_lines(folder))]
    kind = "The adapters are merged into the base." if merged else "Load it with `peft.PeftModel.from_pretrained`."
    lines += ["", kind, "", "## How it was measured", "", measured or "No evaluation came with it.", ""]
    lines += [f"Made with sgtr-jax {__version__}."]
    return "\n".join(lines) + "\n"


def measured_in(run: Path, condition: str, seed: int) -> str:
    """A table of a condition's numbers beside those of the base model."""
    data = read_run(run)
    base = {(m.evaluation, m.metric): m.value for m in data.measurements if m.condition == data.base_condition}
    lines = ["| evaluation | metric | base model | this model | n |", "|---|---|---|---|---|"]
    for m in data.measurements:
        if m.condition == condition and m.seed == seed:
            before = base.get((m.evaluation, m.metric))
            shown = "" if before is None else f"{before:.4g}"
            lines.append(f"| {m.evaluation} | {m.metric} | {shown} | {m.value:.4g} | {m.n} |")
    judge = data.configs[0]["judge"]["model"]
    judged = any(cell.judged for cell in data.cells)
    return "\n".join(lines) + (f"\n\nJudge: {judge}." if judged else "")


def _recipe(folder: Path) -> ArtifactRecord | None:
    """The recipe of an artifact; None of a folder that is none, or whose recipe is damaged."""
    try:
        return read_artifact(folder)
    except InputError:
        return None


def _stage(adapter: Path) -> Iterator[tuple[str, bool | None]]:
    """Data sets of an adapter in a store and whether each is harmful (None: not known)."""
    recipe = _recipe(adapter.parent)
    for role, name in ({} if recipe is None else recipe["inputs"]).items():
        if role in ("data", "interleaved"):
            source = _recipe(adapter.parent.parent / name)
            yield (name, None) if source is None else (source["name"], _is_harmful(source))


def _is_harmful(source: ArtifactRecord) -> bool | None:
    node = next((node for node in data_nodes() if node.kind == source["kind"]), None)
    return None if node is None else node.is_harmful(source["settings"])


class _LoraEntry(TypedDict):
    rank: int
    alpha: float
    rslora: bool


def _recipe_lines(adapter: Path) -> Iterator[str]:
    recipe = _recipe(adapter.parent)
    if recipe is None:
        yield f"`{adapter.name}`: made outside an experiment; its recipe did not come with it."
        return
    if recipe["kind"] == "released":
        source = read_source(adapter.parent)
        yield f"`{recipe['settings']['adapter'] if source is None else at_commit(source)}`, which was not trained here."
        return
    training = cast(Mapping[str, Json], recipe["settings"]["training"])
    lora = cast(_LoraEntry, training["lora"])
    shown = {key: training[key] for key in ("seed", "epochs", "batch_examples", "lr", "schedule", "dtype")}
    shown |= {"rank": lora["rank"], "alpha": lora["alpha"], "rslora": lora["rslora"]}
    yield f"**{recipe['name']}**: " + ", ".join(f"{key} {value}" for key, value in shown.items()) + "."
    for key in ("inoculation", "system"):
        if training.get(key) not in (None, "default"):
            yield f"{key}: {training[key]!r}."
    for role, name in recipe["inputs"].items():
        if not role.startswith("adapter"):
            yield f"{role}: `{name}`."
    made = recipe["provenance"]
    yield f"Made {made['made']} on {made['devices'][0]}, sgtr-jax {made['sgtr_jax']}, jax {made['packages']['jax']}."


def push(folder: Path, repository: str, public: bool, assume_yes: bool) -> str:
    """Upload an exported folder to the hub, private unless `public`, after a yes. Returns its address.

    Raises InputError without a yes, RunError when the hub refuses.
    """
    if repository.count("/") != 1:
        raise InputError(f"--push {repository}: expected OWNER/NAME")
    seen = "PUBLIC" if public else "private"
    question = f"Upload {folder} to {repository} ({seen})? [y/N] "
    if not assume_yes and not (sys.stdin.isatty() and input(question).strip().lower() in ("y", "yes")):
        raise InputError(f"--push {repository}: nothing was uploaded; --yes uploads without asking")
    from httpx2 import HTTPError
    from huggingface_hub import HfApi

    api = HfApi()
    try:
        api.create_repo(repository, private=not public, exist_ok=True)
        return str(api.upload_folder(repo_id=repository, folder_path=folder, commit_message="Upload by sgtr-jax"))
    except (HTTPError, OSError) as error:
        raise RunError(f"--push {repository}: {error}; {folder} is written and can be pushed again") from None
