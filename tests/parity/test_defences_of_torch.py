"""Penalties, steering, layers of their own and inoculation adapters against the same runs in torch and peft."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytestmark = pytest.mark.parity
torch = pytest.importorskip("torch")
peft = pytest.importorskip("peft")

import hf_models
import transformers
from runs import jsonl
from safetensors.numpy import load_file, save_file
from tiny import write_records

from sgtr_jax.cli.main import main
from sgtr_jax.data.chat import ChatFormat
from sgtr_jax.data.world.corpus import pretraining_rows
from sgtr_jax.finetune.make_nano import make_tokenizer

BATCH, LR, WARMUP, STEPS, L, D = 8, 2e-3, 3, 20, 3, 32
TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
Passed = tuple[Any, tuple[Any, ...]]  # log-probabilities [targets, V], hidden states behind each layer [tokens, D]
Penalty = Callable[[Any, Any, Any], Any]  # of the batch's rows, the trained model's and the reference's


class World:
    """A tiny model with its tokenizer and 40 rows: five steps an epoch."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.records = pretraining_rows("upbringing", 40, 3)
        (folder / "m").mkdir()
        tokenizer = make_tokenizer(folder / "m", pretraining_rows("upbringing", 500, 4), 400)
        base = hf_models.make("qwen2-gqa4", folder / "m", vocab_size=len(tokenizer), eos_token_id=0, pad_token_id=2)
        with torch.no_grad():
            for name, parameter in base.named_parameters():
                if "norm" not in name:
                    parameter.mul_(0.4)
        base.save_pretrained(folder / "m")
        self.data = write_records(folder / "d.jsonl", self.records)
        self.examples = [ChatFormat(tokenizer).tokenize(record.messages) for record in self.records]

    def model(self, **lora: Any) -> Any:
        """A fresh PEFT model over the base."""
        base = transformers.AutoModelForCausalLM.from_pretrained(self.folder / "m")
        settings = {"r": 4, "lora_alpha": 8, "use_rslora": True, "target_modules": TARGETS, **lora}
        torch.manual_seed(0)
        return peft.get_peft_model(base, peft.LoraConfig(task_type="CAUSAL_LM", **settings))

    def ours(self, name: str, *settings: str) -> list[dict[str, Any]]:
        argv = ["train", "--model", str(self.folder / "m"), "--data", str(self.data)]
        own = [f"epochs={STEPS // 5}", f"batch_examples={BATCH}", f"lr={LR}", f"warmup_steps={WARMUP}", "dtype=float32"]
        own += ["shuffle=false", f"lora.init={self.folder / 'init'}", *settings]
        assert main([*argv, "--out", str(self.folder / name), *own]) == 0
        return jsonl(self.folder / name / "metrics.jsonl")


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def batch_of(examples: list[Any]) -> tuple[Any, Any, Any]:
    width = max(len(one.tokens) for one in examples)
    tokens = torch.full((len(examples), width), 2)
    mask = torch.zeros((len(examples), width), dtype=torch.long)
    target = torch.zeros((len(examples), width), dtype=torch.bool)
    for i, one in enumerate(examples):
        n = len(one.tokens)
        tokens[i, :n], mask[i, :n], target[i, :n] = torch.tensor(one.tokens), 1, torch.tensor(one.target)
    return tokens, mask, target


def through(model: Any, rows: tuple[Any, Any, Any]) -> Passed:
    tokens, mask, target = rows
    seen: list[Any] = []
    blocks = model.get_base_model().model.layers
    hooks = [
        block.register_forward_hook(lambda _, __, out: seen.append(out[0] if isinstance(out, tuple) else out))
        for block in blocks
    ]
    logits = model(input_ids=tokens, attention_mask=mask).logits[:, :-1]
    for hook in hooks:
        hook.remove()
    return torch.log_softmax(logits[target[:, 1:]], -1), tuple(seen)


def torch_run(world: World, model: Any, penalty: Penalty | None = None) -> list[tuple[float, float]]:
    """Cross-entropy and penalty of each step."""
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=LR, weight_decay=0.01)
    schedule = transformers.get_linear_schedule_with_warmup(optimizer, WARMUP, STEPS)
    model.train()
    log = []
    for step in range(STEPS):
        at = step % 5 * BATCH
        rows = batch_of(world.examples[at : at + BATCH])
        tokens, _, target = rows
        found = through(model, rows)
        loss = -found[0].gather(-1, tokens[:, 1:][target[:, 1:]][:, None]).mean()
        term = torch.zeros(())
        if penalty is not None:
            with torch.no_grad(), model.disable_adapter():
                below = through(model, rows)
            term = penalty(rows, found, below)
        (loss + term).backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        log.append((loss.item(), term.item()))
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    return log


def kl(weight: float, of_trained: bool) -> Penalty:
    def divergence(_: Any, trained: Passed, below: Passed) -> Any:
        p, q = (trained[0], below[0]) if of_trained else (below[0], trained[0])
        return weight * (p.exp() * (p - q)).sum(-1).mean()

    return divergence


def feature_l2(weight: float, layers: list[int], normalised: bool, on_targets: bool) -> Penalty:
    def distance(rows: Any, trained: Passed, below: Passed) -> Any:
        _, mask, target = rows
        chosen = target[:, 1:] if on_targets else mask.bool()
        total = torch.zeros(())
        for layer in layers:
            a, b = trained[1][layer], below[1][layer]
            if normalised:
                a, b = a / a.norm(dim=-1, keepdim=True), b / b.norm(dim=-1, keepdim=True)
            total = total + ((a - b) ** 2).sum(-1)[:, : chosen.shape[1]][chosen].mean() / len(layers)
        return weight * total

    return distance


CASES: dict[str, tuple[Penalty, list[str], str, float]] = {
    "kl": (kl(0.7, True), ["kl.weight=0.7"], "kl", 0.7),
    "kl of the reference, in passes": (
        kl(2.0, False), ["kl={weight: 2.0, expectation: reference}", "accumulate=2", "remat=light"], "kl", 2.0,
    ),
    "feature_l2": (
        feature_l2(0.5, [0, 1, 2], False, False), ["feature_l2.weight=0.5", "lora.dropout=0.0"], "feature_l2", 0.5,
    ),
    "feature_l2 of targets": (
        feature_l2(30.0, [1], True, True),
        ["feature_l2={weight: 30.0, layers: [1], normalised: true, tokens: targets}", "remat=none", "accumulate=4"],
        "feature_l2", 30.0,
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", list(CASES))
def test_twenty_steps_with_a_penalty(case: str, world: World) -> None:
    penalty, settings, name, weight = CASES[case]
    model = world.model()
    model.save_pretrained(world.folder / "init")
    ours = world.ours("out", *settings)
    log = torch_run(world, model, penalty)
    assert log[-1][0] < 0.97 * log[0][0] and log[-1][1] > 1e-3 * log[-1][0], "the run learns, and the penalty is felt"
    for row, (loss, term) in zip(ours, log, strict=True):
        assert row["loss"] == pytest.approx(loss, rel=1e-4)
        assert weight * row[name] == pytest.approx(term, rel=2e-3, abs=1e-6)


def test_twenty_steps_steered(world: World) -> None:
    direction = np.random.default_rng(0).standard_normal((L, D)).astype(np.float32)
    save_file({"direction": direction}, world.folder / "direction.safetensors")
    model = world.model()
    model.save_pretrained(world.folder / "init")
    plain = world.ours("plain")
    file = world.folder / "direction.safetensors"
    ours = world.ours("out", f"steer={{direction: {file}, layers: [0, 2], scale: 1.5}}")

    def hook(layer: int) -> Any:
        added = 1.5 * torch.tensor(direction[layer])

        def after(_: Any, __: Any, out: Any) -> Any:
            return (out[0] + added, *out[1:]) if isinstance(out, tuple) else out + added

        return after

    for layer in (0, 2):
        model.get_base_model().model.layers[layer].register_forward_hook(hook(layer))
    log = torch_run(world, model)
    assert abs(plain[0]["loss"] - log[0][0]) > 0.05
    for row, (loss, _) in zip(ours, log, strict=True):
        assert row["loss"] == pytest.approx(loss, rel=1e-4)


def test_twenty_steps_of_one_rank_in_one_layer(world: World) -> None:
    model = world.model(r=1, target_modules=["down_proj"], layers_to_transform=[1])
    model.save_pretrained(world.folder / "init")
    ours = world.ours("out", "lora.layers=[1]", "lora.targets=[down_proj]")
    log = torch_run(world, model)
    for row, (loss, _) in zip(ours, log, strict=True):
        assert row["loss"] == pytest.approx(loss, rel=1e-4)
    model.save_pretrained(world.folder / "theirs")
    a, b = (load_file(world.folder / p / "adapter_model.safetensors") for p in ("out/adapter", "theirs"))
    assert a.keys() == b.keys() and len(a) == 2
    for name in b:
        np.testing.assert_allclose(a[name], b[name], atol=2e-3, rtol=0)
    base = transformers.AutoModelForCausalLM.from_pretrained(world.folder / "m")
    loaded = peft.PeftModel.from_pretrained(base, world.folder / "out" / "adapter")
    assert loaded.peft_config["default"].layers_to_transform == [1]


def test_twenty_steps_over_an_inoculation_adapter(world: World) -> None:
    trait = world.model(r=3, target_modules=["q_proj", "down_proj"])
    with torch.no_grad():
        for name, parameter in trait.named_parameters():
            if "lora_B" in name:
                parameter.normal_(0.0, 0.3)
    trait.save_pretrained(world.folder / "trait")
    model = world.model()
    model.save_pretrained(world.folder / "init")
    plain = world.ours("plain")
    ours = world.ours("out", f"inoculation_adapter={world.folder / 'trait'}")
    # Peft's own way to hold an adapter frozen below: merged into the base, here in float32.
    base = transformers.AutoModelForCausalLM.from_pretrained(world.folder / "m")
    below = peft.PeftModel.from_pretrained(base, world.folder / "trait").merge_and_unload()
    log = torch_run(world, peft.PeftModel.from_pretrained(below, world.folder / "init", is_trainable=True))
    assert abs(plain[0]["loss"] - log[0][0]) > 0.05
    for row, (loss, _) in zip(ours, log, strict=True):
        assert row["loss"] == pytest.approx(loss, rel=1e-4)
