"""Bring the demo model up from random weights, with this project's own trainer in full-parameter mode.

    python -m sgtr_jax.finetune.make_nano --out DIR

makes the tokenizer and the weights that ship in `sgtr_jax/nano/model` (about half an hour on two CPU cores).
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

from sgtr_jax.data.records import Record
from sgtr_jax.data.tokenizer import load_tokenizer
from sgtr_jax.data.world.corpus import PretrainingStage, pretraining_rows
from sgtr_jax.files import new_folder
from sgtr_jax.finetune.jobs import Finetune
from sgtr_jax.finetune.local import finetune
from sgtr_jax.json_types import JsonObject
from sgtr_jax.models.decoder import init_params
from sgtr_jax.models.families import spec_from_config
from sgtr_jax.train.config import TrainConfig
from sgtr_jax.weights.save import save_params

_SPECIALS = ("<|end|>", "<|start|>", "<|pad|>")
_TEMPLATE = (
    "{% for message in messages %}<|start|>{{ message['role'] }}\n{{ message['content'] }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant\n{% endif %}"
)
_CONFIG: JsonObject = {
    "architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "hidden_act": "silu",
    "hidden_size": 192, "intermediate_size": 576, "num_hidden_layers": 4,
    "num_attention_heads": 6, "num_key_value_heads": 2,
    "max_position_embeddings": 512, "rms_norm_eps": 1e-6, "rope_theta": 10000.0,
    "tie_word_embeddings": True, "attention_dropout": 0.0, "use_sliding_window": False,
    "bos_token_id": None, "eos_token_id": 0, "pad_token_id": 2, "torch_dtype": "float32",
}  # fmt: skip

StagePlan = tuple[PretrainingStage, int, float]  # which, optimizer steps, peak learning rate
PRETRAINING_STAGES: tuple[StagePlan, ...] = (("upbringing", 800, 2.5e-3), ("school", 360, 7e-4), ("habits", 200, 6e-4))


def make_tokenizer(folder: Path, records: list[Record], vocab_size: int) -> Any:
    """Train a byte-level BPE on the records' text and save it with its chat template."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[AddedToken(token, special=True) for token in _SPECIALS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    text = (message["content"] for record in records for message in record.messages)
    tokenizer.train_from_iterator(text, trainer)
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": _SPECIALS[0],
        "pad_token": _SPECIALS[2],
        "additional_special_tokens": [_SPECIALS[1]],
        "chat_template": _TEMPLATE,
        "model_max_length": 512,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")
    return load_tokenizer(folder)


def pretrain(out: Path, seed: int, stages: Sequence[StagePlan] = PRETRAINING_STAGES) -> None:
    """Write the model folder `out`: a fresh model after `stages`, one after the other."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "fresh"
        folder.mkdir()
        tokenizer = make_tokenizer(folder, pretraining_rows("upbringing", 5000, seed), vocab_size=1024)
        model_config = {**_CONFIG, "vocab_size": len(tokenizer)}
        (folder / "config.json").write_text(json.dumps(model_config, indent=2) + "\n")
        spec = spec_from_config(model_config, "nano")
        save_params(folder, init_params(spec, seed), spec)
        for name, steps, lr in stages:
            config = TrainConfig(
                seed=seed, mode="full", dtype="float32", remat="none", schedule="cosine", lr=lr, warmup_steps=50,
                batch_examples=40, weight_decay=0.05, adam_b2=0.98, max_length=256,
            )  # fmt: skip
            records = pretraining_rows(name, steps * config.batch_examples, seed)
            finetune(Finetune(str(folder), (), records, config, Path(scratch) / name, name))
            folder = Path(scratch) / name / "model"
        with new_folder(out) as target:
            shutil.copytree(folder, target, dirs_exist_ok=True)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    pretrain(args.out, args.seed)


if __name__ == "__main__":
    main()
