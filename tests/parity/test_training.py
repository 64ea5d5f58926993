"""The same training run in torch + peft: losses of 50 steps, gradient norms, learning rates, final adapters."""

from __future__ import annotations

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
from safetensors.numpy import load_file
from tiny import write_records

import sgtr_jax
from sgtr_jax.cli.main import main
from sgtr_jax.data.chat import ChatFormat
from sgtr_jax.data.world.corpus import pretraining_rows
from sgtr_jax.finetune.make_nano import make_tokenizer

EPOCHS, BATCH, LR, WARMUP = 10, 13, 1e-3, 5  # 64 rows: five steps an epoch, the last one of 12


def torch_run(model: Any, examples: list[Any]) -> list[tuple[float, float, float]]:
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=LR, weight_decay=0.01)
    per_epoch = -(-len(examples) // BATCH)
    schedule = transformers.get_linear_schedule_with_warmup(optimizer, WARMUP, EPOCHS * per_epoch)
    model.train()
    log = []
    for _ in range(EPOCHS):
        for at in range(0, len(examples), BATCH):
            rows = examples[at : at + BATCH]
            width = max(len(row.tokens) for row in rows)
            tokens = torch.full((len(rows), width), 2)
            labels = torch.full((len(rows), width), -100)
            mask = torch.zeros((len(rows), width), dtype=torch.long)
            for i, row in enumerate(rows):
                n = len(row.tokens)
                tokens[i, :n], mask[i, :n] = torch.tensor(row.tokens), 1
                labels[i, :n] = torch.tensor([t if k else -100 for t, k in zip(row.tokens, row.target, strict=True)])
            loss = model(input_ids=tokens, attention_mask=mask, labels=labels).loss
            loss.backward()
            norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            log.append((loss.item(), float(norm), schedule.get_last_lr()[0]))
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
    return log


@pytest.mark.parametrize("case", ["qwen2-gqa7-headdim", "seed-all-biases", "olmo3-yarn", "gemma3-linear"])
def test_fifty_steps(case: str, tmp_path: Path) -> None:
    records = pretraining_rows("upbringing", 64, 3)
    (tmp_path / "m").mkdir()
    tokenizer = make_tokenizer(tmp_path / "m", pretraining_rows("upbringing", 500, 4), 400)
    base = hf_models.make(case, tmp_path / "m", vocab_size=len(tokenizer), eos_token_id=0, pad_token_id=2)
    with torch.no_grad():
        for name, parameter in base.named_parameters():
            if "norm" not in name:
                parameter.mul_(0.4)
    base.save_pretrained(tmp_path / "m")
    config = peft.LoraConfig(
        r=8, lora_alpha=16, use_rslora=True, lora_dropout=0.0, task_type="CAUSAL_LM",
        target_modules=["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
    )  # fmt: skip
    model = peft.get_peft_model(base, config)
    model.save_pretrained(tmp_path / "init")
    data = write_records(tmp_path / "d.jsonl", records)
    argv = ["train", "--model", str(tmp_path / "m"), "--data", str(data), "--out", str(tmp_path / "out")]
    settings = [f"epochs={EPOCHS}", f"batch_examples={BATCH}", f"lr={LR}", f"warmup_steps={WARMUP}"]
    settings += ["dtype=float32", "shuffle=false", f"lora.init={tmp_path / 'init'}"]
    assert main([*argv, *settings]) == 0
    ours = jsonl(tmp_path / "out" / "metrics.jsonl")

    chat = ChatFormat(tokenizer)
    log = torch_run(model, [chat.tokenize(record.messages) for record in records])
    assert len(ours) == len(log) == 50
    assert log[-1][0] < 0.9 * log[0][0], "the comparison is of a run that learns"
    for row, (loss, norm, lr) in zip(ours, log, strict=True):
        assert row["loss"] == pytest.approx(loss, rel=1e-3)
        assert row["grad_norm"] == pytest.approx(norm, rel=1e-2)
        assert row["lr"] == pytest.approx(lr, rel=1e-5, abs=1e-12)
    model.save_pretrained(tmp_path / "theirs")
    a, b = (load_file(tmp_path / p / "adapter_model.safetensors") for p in ("out/adapter", "theirs"))
    assert a.keys() == b.keys()
    error = sum(float(((a[k] - b[k]) ** 2).sum()) for k in b) ** 0.5
    assert error < 1e-2 * sum(float((b[k] ** 2).sum()) for k in b) ** 0.5

    fresh = hf_models.transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "m")
    loaded = peft.PeftModel.from_pretrained(fresh, tmp_path / "out" / "adapter").eval()
    tokens = np.asarray([chat.tokenize(records[0].messages).tokens])
    with torch.no_grad():
        wanted = loaded(torch.tensor(tokens)).logits.numpy()
    mine = sgtr_jax.load_model(tmp_path / "m").with_adapters([tmp_path / "out" / "adapter"])
    np.testing.assert_allclose(mine.logits(tokens), wanted, atol=1e-4, rtol=0)
