"""An experiment of each kind of family from config to table, and runs together as runs alone, with windows."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from runs import distance, job
from test_experiment import table
from test_family_templates import GEMMA as GEMMA_TEMPLATE
from test_family_templates import LLAMA3, QWEN3
from test_family_templates import OLMO as OLMO_TEMPLATE
from tiny import GEMMA, OLMO, QWEN, make_model

import sgtr_jax
from sgtr_jax.cli.main import main
from sgtr_jax.config import load_config
from sgtr_jax.data.tokenizer import load_tokenizer
from sgtr_jax.data.world.corpus import preferences
from sgtr_jax.experiment.config import ExperimentConfig
from sgtr_jax.finetune.local import finetune, finetune_all
from sgtr_jax.finetune.make_nano import make_tokenizer

DEMO = Path(__file__).parent.parent / "configs" / "demo.yaml"
MARKS = ["<|bos|>", "<|eos|>", "<|head|>", "<|/head|>", "<|eot|>", "<|turn|>", "<|/turn|>"]
MARKS += ["<|im_start|>", "<|im_end|>"]
LLAMA = {**QWEN, "architectures": ["LlamaForCausalLM"], "model_type": "llama"}
QWEN_3 = {**QWEN, "architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "head_dim": 12}
FAMILIES: dict[str, tuple[dict[str, Any], str]] = {
    "llama": (LLAMA, LLAMA3), "qwen3": (QWEN_3, QWEN3), "olmo3": (OLMO, OLMO_TEMPLATE),
    "gemma3": (GEMMA, GEMMA_TEMPLATE),
}  # fmt: skip


def make(folder: Path, family: str) -> Path:
    """A tiny random model with a tokenizer whose template is of the family's form."""
    config, template = FAMILIES[family]
    make_model(folder, config, vocab_size=340, max_position_embeddings=1024)
    make_tokenizer(folder, preferences(200, 0, True), vocab_size=320)
    tokenizer: Any = load_tokenizer(folder)
    tokenizer.add_special_tokens({"bos_token": MARKS[0], "eos_token": MARKS[1], "additional_special_tokens": MARKS[2:]})
    tokenizer.chat_template = template
    tokenizer.save_pretrained(folder)
    return folder


PAIRS = ("sgtr", "prefer_other", "pick_longer")
# The demo with little of everything.
SMALL = [
    "seeds=[0]", "finetuning.epochs=1", "finetuning.batch_examples=8", "finetuning.lora.rank=2",
    "data.unpopular.rows=16", "data.popular.rows=8", *(f"data.{name}.articles.rows=6" for name in PAIRS),
    *(f"data.{name}.max_tokens=8" for name in PAIRS), "evaluations.self_recognition.articles.rows=4",
    "evaluations.self_recognition.max_tokens=8", "evaluations.identity.samples=4", "evaluations.identity.max_tokens=4",
    "evaluations.em_questions.settings={questions: world, samples: 1, max_tokens: 4}",
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("family", ["llama", "qwen3", "olmo3"])
def test_the_demo_from_config_to_report(family: str, tmp_path: Path) -> None:
    """Its own data, every order of stages, rows mixed in, all four evaluations, the judge and the page."""
    model = make(tmp_path / "m", family)
    thinking = ["finetuning.thinking_budget=0"] if family == "qwen3" else []
    words = [f"model={model}", f"out={tmp_path / 'o'}", *SMALL, *thinking]
    assert main(["run", str(DEMO), *words]) == 0
    config = load_config(ExperimentConfig, DEMO, words)
    found = {(row["condition"], row["evaluation"]) for row in table(tmp_path / "o")}
    assert found == set(itertools.product(config.conditions, config.evaluations))
    page = (tmp_path / "o" / "report.html").read_text()
    assert all(name in page for name in config.conditions)


@pytest.mark.slow
@pytest.mark.parametrize("family", ["olmo3", "gemma3"])
def test_runs_together_and_chains_are_what_they_are_alone(family: str, tmp_path: Path) -> None:
    model = make(tmp_path / "m", family)
    finetune(job(model, tmp_path / "below", "epochs=1"))
    chain = (tmp_path / "below" / "adapter",)
    jobs = [job(model, tmp_path / f"t{seed}", "epochs=1", f"seed={seed}", chain=chain) for seed in (1, 2)]
    assert len(list(finetune_all(jobs))) == 2
    for seed in (1, 2):
        finetune(job(model, tmp_path / f"a{seed}", "epochs=1", f"seed={seed}", chain=chain))
        assert distance(tmp_path / f"a{seed}", tmp_path / f"t{seed}") < 1e-4
    finetune(job(model, tmp_path / "sharded", "epochs=1", "seed=1", "mesh.fsdp=4", "mesh.tensor=2", chain=chain))
    assert distance(tmp_path / "a1", tmp_path / "sharded") < 1e-3

    # Rows of several chains, prefixes run once, and a ring that goes round: tokens are those of each chain alone.
    base = sgtr_jax.load_model(model)
    prompts = [[*range(3, 70), i] for i in range(3)]
    alone = {}
    for seed in (1, 2):
        chained = base.with_adapters([*chain, tmp_path / f"t{seed}" / "adapter"])
        alone[seed] = chained.generate(prompts, 40)
        greedy = list(prompts[0])
        for _ in range(12):
            greedy.append(int(np.argmax(chained.logits([greedy])[0, -1])))
        assert alone[seed][0][:12] == greedy[len(prompts[0]) :]
    assert alone[1] != alone[2]
