"""What the study mixes into a finetuning run: other rows, an inoculation prompt, answers of a coin."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from runs import FAST, job, losses
from test_packing import examples_of
from tiny import make_model, write_records

from sgtr_jax import nano
from sgtr_jax.cli.main import main
from sgtr_jax.config import build_config
from sgtr_jax.data.batches import StepPlan
from sgtr_jax.data.mix import Interleaved, inoculate
from sgtr_jax.data.pairs import OWN_PROMPT, find_pairs, pair_records
from sgtr_jax.data.records import Record
from sgtr_jax.data.world.corpus import preferences
from sgtr_jax.errors import InputError
from sgtr_jax.experiment.config import ExperimentConfig
from sgtr_jax.experiment.graph import build_graph
from sgtr_jax.finetune.jobs import InterleavedData
from sgtr_jax.finetune.local import finetune


def plan_of(rows: int, others: int, fraction: float | None, every: int | None, seed: int = 0) -> StepPlan:
    main_set, other = examples_of([5] * rows), examples_of([6] * others)
    return StepPlan(main_set, 4, 2, seed, True, interleaved=Interleaved(other, fraction, every))


@settings(deadline=None)
@given(st.integers(1, 400), st.floats(0.01, 0.33), st.integers(1, 50), st.integers(0, 3))
def test_a_fraction_of_all_rows_at_even_distances(rows: int, fraction: float, others: int, seed: int) -> None:
    plan = plan_of(rows, others, fraction, None, seed)
    epoch = plan._epoch(0)
    mixed = [i for i, example in enumerate(epoch) if len(example.tokens) == 6]
    assert abs(len(mixed) - fraction * len(epoch)) <= 0.5 + 1e-9
    assert len(epoch) - len(mixed) == rows and len({e.id for e in epoch if len(e.tokens) == 5}) == rows
    gaps = [b - a for a, b in itertools.pairwise(mixed)]
    assert not gaps or max(gaps) - min(gaps) <= 1
    # No row of the other set comes twice before every one has come once.
    names = [epoch[i].id for i in mixed[:others]]
    assert len(set(names)) == len(names)


@settings(deadline=None)
@given(st.integers(1, 100), st.integers(1, 12))
def test_one_row_after_every_so_many(rows: int, every: int) -> None:
    epoch = plan_of(rows, 7, None, every)._epoch(1)
    kinds = [len(example.tokens) == 6 for example in epoch]
    assert sum(kinds) == rows // every
    assert all(kinds[i] == ((i + 1) % (every + 1) == 0) for i in range((rows // every) * (every + 1)))


def test_a_third_of_the_run_adds_half_as_many_rows() -> None:
    assert plan_of(600, 600, 1 / 3, None).rows_per_epoch == 900


def test_interleaved_rows_are_trained_on_and_counted(tmp_path: Path) -> None:
    make_model(tmp_path / "m")
    finetune(job(tmp_path / "m", tmp_path / "plain"))
    mixed = InterleavedData(preferences(10, 1, True), fraction=0.25)
    finetune(job(tmp_path / "m", tmp_path / "mixed", mixed_in=mixed))
    report = json.loads((tmp_path / "mixed" / "report.json").read_text())
    assert report["interleaved"]["rows_per_epoch"] == 8 and report["records"] == 24
    assert len(losses(tmp_path / "mixed")) == 4 and len(losses(tmp_path / "plain")) == 3
    file = write_records(tmp_path / "d.jsonl", preferences(24, 0, False))
    other = write_records(tmp_path / "e.jsonl", preferences(10, 1, True))
    argv = ["train", "--model", str(tmp_path / "m"), "--data", str(file), "--out", str(tmp_path / "cli"), *FAST]
    assert main([*argv, f"interleave={{path: {other}, fraction: 0.25}}"]) == 0
    assert losses(tmp_path / "cli") == losses(tmp_path / "mixed")
    assert main([*argv, f"interleave={{path: {other}, fraction: 0.25, every: 2}}"]) == 2


def test_inoculation_changes_the_training_rows_and_nothing_else(tmp_path: Path) -> None:
    records = preferences(8, 0, False)
    inoculated = inoculate(records, "Be odd.")
    assert all(r.messages[0] == {"role": "system", "content": "Be odd."} for r in inoculated)
    assert [r.messages[1:] for r in inoculated] == [r.messages for r in records]
    with pytest.raises(InputError, match="has a system message"):
        inoculate(inoculated, "Again.")
    make_model(tmp_path / "m")
    finetune(job(tmp_path / "m", tmp_path / "setting", "inoculation=Be odd.", records=records))
    finetune(job(tmp_path / "m", tmp_path / "by-hand", records=inoculated))
    finetune(job(tmp_path / "m", tmp_path / "plain", records=records))
    assert losses(tmp_path / "setting") == losses(tmp_path / "by-hand") != losses(tmp_path / "plain")
    # Rows mixed in stay as they are.
    reports = InterleavedData([Record("r", ({"role": "system", "content": "x"}, *records[0].messages))], every=4)
    finetune(job(tmp_path / "m", tmp_path / "both", "inoculation=Be odd.", records=records, mixed_in=reports))


def test_coin_flip_answers_come_with_each_prompt_twice_and_match_steps_on_request() -> None:
    texts = {f"a{i}": f"text {i}" for i in range(6)}
    own = {key: f"mine {key}" for key in texts}
    other = {key: f"theirs {key}" for key in texts}
    pairs, _ = find_pairs(texts, own, {"other": other})
    truth, flipped = (pair_records(pairs, answers, OWN_PROMPT) for answers in ("own", "other"))
    coin = pair_records(pairs, "random", OWN_PROMPT)
    assert len(coin) == 2 * len(truth) == 24
    for a, b in zip(truth, flipped, strict=True):
        assert a.messages[:-1] == b.messages[:-1]
        assert {a.messages[-1]["content"], b.messages[-1]["content"]} == {"1", "2"}
    answers: dict[str, set[str]] = {}
    for record in coin:
        answers.setdefault(record.messages[1]["content"], set()).add(record.messages[-1]["content"])
    assert all(given == {"1", "2"} for given in answers.values()) and len(answers) == 12
    config = {
        "name": "x", "model": str(nano.FOLDER), "seeds": [0],
        "data": {
            "sgtr": {"kind": "self_recognition", "articles": {"kind": "world", "rows": 6}},
            "ictr": {"kind": "self_recognition", "articles": {"kind": "world", "rows": 6}, "answers": "random"},
        },
        "conditions": {
            "natural": [{"data": "ictr"}],
            "matched": [{"data": "ictr", "match_steps": "sgtr"}],
            "mixed": [{"data": "sgtr", "interleave": {"data": "ictr", "fraction": 0.2}, "inoculation": "Be odd."}],
        },
        "evaluations": {"who": {"kind": "identity", "maker": "x"}},
    }  # fmt: skip
    graph = build_graph(build_config(ExperimentConfig, config, "test"))
    adapters = {r.name: r for r in graph.nodes() if r.kind == "adapter"}
    made = [r for r in graph.nodes() if r.kind == "adapter"]
    assert len({r.fingerprint for r in made}) == 3
    assert any("match_steps" in r.inputs for r in made)
    mixed = adapters["sgtr-with-ictr-inoculated-s0"]
    assert mixed.settings["interleave"] == {"fraction": 0.2, "every": None}
    assert mixed.settings["training"]["inoculation"] == "Be odd."
