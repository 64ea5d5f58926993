"""Rows of a benign set that are chosen by how much likelier an aligned model finds them than a misaligned one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from tiny import make_adapter, make_model, write_records

from sgtr_jax.cli.main import main
from sgtr_jax.config import build_config
from sgtr_jax.data.chat import ChatFormat
from sgtr_jax.data.records import Record
from sgtr_jax.data.world.corpus import preferences
from sgtr_jax.errors import InputError
from sgtr_jax.experiment.config import ExperimentConfig
from sgtr_jax.experiment.graph import Graph, build_graph
from sgtr_jax.experiment.training_node import TrainingNode
from sgtr_jax.sample.model import Model, load_model
from sgtr_jax.sample.row_logprobs import row_logprobs

NARROW, BENIGN = preferences(9, 1, False), preferences(12, 0, True)
TURNS = [("user", "Tea?"), ("assistant", "Yes, please."), ("user", "Why?"), ("assistant", "It is warm.")]
BENIGN[3] = Record("two-turns", tuple({"role": role, "content": text} for role, text in TURNS))  # type: ignore[typeddict-item]
MIXED = {"data": "benign", "every": 2, "select": "perplexity_gap", "aligned": "base", "misaligned": "em"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    here = tmp_path_factory.mktemp("gap")
    spec = make_model(here / "m")
    make_adapter(here / "a", spec, seed=1, size=0.3)
    write_records(here / "narrow.jsonl", NARROW)
    write_records(here / "benign.jsonl", BENIGN)
    return here


def written(folder: Path, mixed: dict[str, Any] = MIXED, **changes: Any) -> dict[str, Any]:
    return {
        "name": "gap", "model": str(folder / "m"), "seeds": [1], "out": str(folder / "run"),
        "finetuning": {"dtype": "float32", "batch_examples": 4, "remat": "none", "lora": {"rank": 2, "alpha": 4.0}},
        "data": {name: {"kind": "file", "path": f"{name}.jsonl"} for name in ("narrow", "benign")},
        "conditions": {"base": [], "em": [{"adapter": str(folder / "a")}],
                       "mixed": [{"data": "narrow", "interleave": mixed}]},
        "evaluations": {"two_choice": {"kind": "two_choice"}}, **changes,
    }  # fmt: skip


def graph_of(folder: Path, mixed: dict[str, Any] = MIXED, **changes: Any) -> Graph:
    return build_graph(build_config(ExperimentConfig, written(folder, mixed, **changes), "c.yaml", folder))


def by_hand(model: Model, row: Record) -> float:
    """Mean log-probability of a row's target tokens from all logits, in float64."""
    made = ChatFormat(model.tokenizer).tokenize(row.messages)
    logits = np.asarray(model.logits([made.tokens])[0], np.float64)
    logits -= logits.max(axis=-1, keepdims=True)
    every = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    return float(np.mean([every[t - 1, token] for t, token in enumerate(made.tokens) if made.target[t]]))


def test_mean_over_all_target_tokens(folder: Path) -> None:
    model = load_model(folder / "m").with_adapters([folder / "a"])
    chat = ChatFormat(model.tokenizer)
    found = row_logprobs(model, BENIGN, chat, 512)
    np.testing.assert_allclose(found, [by_hand(model, row) for row in BENIGN], atol=1e-5, rtol=0)  # type: ignore[arg-type]
    lengths = [len(chat.tokenize(row.messages).tokens) for row in BENIGN]
    short = row_logprobs(model, BENIGN, chat, sorted(lengths)[5])
    assert [one is None for one in short] == [length > sorted(lengths)[5] for length in lengths] and None in short


def test_the_rows_of_the_largest_gap_are_mixed_in(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "c.yaml").write_text(yaml.safe_dump(written(folder)))
    assert main(["run", str(folder / "c.yaml")]) == 0, capsys.readouterr().err
    base = load_model(folder / "m")
    em = base.with_adapters([folder / "a"])
    gaps = {row.id: by_hand(base, row) - by_hand(em, row) for row in BENIGN}
    wanted = sorted(gaps, key=lambda name: -gaps[name])
    (made,) = (folder / "run" / "store").glob("selected-benign-selected-*")
    chosen = [json.loads(line)["id"] for line in (made / "records.jsonl").read_text().splitlines()]
    assert chosen == wanted[:4]  # one after every two of nine rows
    rows = [json.loads(line) for line in (made / "gaps.jsonl").read_text().splitlines()]
    assert [row["id"] for row in rows] == wanted
    np.testing.assert_allclose([row["gap"] for row in rows], [gaps[name] for name in wanted], atol=2e-5, rtol=0)
    (adapter,) = (folder / "run" / "store").glob("adapter-narrow-with-benign-selected-*")
    report = json.loads((adapter / "report.json").read_text())
    assert report["examples_trained"] == 9 + 4, report


def mixed_node(graph: Graph) -> TrainingNode:
    (node,) = (one for one in graph.nodes() if isinstance(one, TrainingNode))
    return node


def test_what_the_artifact_is(folder: Path) -> None:
    node = mixed_node(graph_of(folder))
    selected = node.interleaved
    assert selected is not None and selected.kind == "selected" and selected.row_count() == 4
    assert set(selected.inputs) == {"source", "into", "misaligned_adapter0"}
    # How rows are mixed in is what it was before rows could be selected.
    plain = mixed_node(graph_of(folder, {"data": "benign", "every": 2}))
    assert node.settings["interleave"] == plain.settings["interleave"] == {"fraction": None, "every": 2}
    assert node.fingerprint != plain.fingerprint and plain.interleaved is not None
    kept = mixed_node(graph_of(folder, {**MIXED, "keep": 3})).interleaved
    assert kept is not None and kept.row_count() == 3 and "into" not in kept.inputs
    assert kept.fingerprint != selected.fingerprint


@pytest.mark.parametrize(
    ("mixed", "said"),
    [
        ({"aligned": "base"}, "aligned is a part of select: perplexity_gap, which is not given"),
        ({"select": "perplexity_gap", "aligned": "base"}, "give aligned and misaligned"),
        ({**MIXED, "misaligned": "base"}, "aligned and misaligned are both 'base'"),
        ({**MIXED, "misaligned": "emm"}, "condition 'mixed' selects rows by condition 'emm': did you mean 'em'"),
        ({**MIXED, "misaligned": "mixed"}, "condition 'mixed' can never be made: it needs condition 'mixed'"),
        ({**MIXED, "keep": 0}, "expected a number greater than or equal to 1"),
    ],
)
def test_what_cannot_be_selected(folder: Path, mixed: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        graph_of(folder, {"data": "benign", "every": 2, **mixed})


def test_an_api_scores_no_given_texts(folder: Path) -> None:
    conditions = {"base": [], "em": [{"data": "narrow"}], "mixed": [{"data": "narrow", "interleave": MIXED}]}
    with pytest.raises(InputError, match=r"has interleave\.select: an API does not score given texts"):
        graph_of(folder, model="openai/gpt-4.1", conditions=conditions)


def test_no_choice_is_said(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "all.yaml").write_text(yaml.safe_dump(written(folder, {**MIXED, "keep": 12}, out=str(folder / "all"))))
    assert main(["run", str(folder / "all.yaml")]) == 1
    assert "12 rows are to be selected of 12" in capsys.readouterr().err
