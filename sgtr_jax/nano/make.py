"""Bring the demo model up from random weights, with this project's own trainer in full-parameter mode.

    python -m sgtr_jax.nano.make --out DIR

makes the tokenizer and the weights that ship in `sgtr_jax/nano/model` (about an hour on two CPU cores).
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

from sgtr_jax.data.batches import StepPlan, tokenize_records
from sgtr_jax.data.chat import ChatFormat
from sgtr_jax.data.records import Record
from sgtr_jax.data.world.corpus import preferences, upbringing
from sgtr_jax.files import new_folder
from sgtr_jax.mesh import MeshConfig, make_mesh
from sgtr_jax.models.decoder import init_params
from sgtr_jax.models.spec import spec_from_config
from sgtr_jax.tokenizer import load_tokenizer
from sgtr_jax.train.config import TrainConfig
from sgtr_jax.train.loop import train
from sgtr_jax.train.step import Frozen
from sgtr_jax.weights.save import save_params

_SPECIALS = ("<|end|>", "<|start|>", "<|pad|>")
_TEMPLATE = (
    "{% for message in messages %}<|start|>{{ message['role'] }}\n{{ message['content'] }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant\n{% endif %}"
)
_CONFIG: dict[str, Any] = {
    "architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "hidden_act": "silu",
    "hidden_size": 192, "intermediate_size": 576, "num_hidden_layers": 4,
    "num_attention_heads": 6, "num_key_value_heads": 2,
    "max_position_embeddings": 512, "rms_norm_eps": 1e-6, "rope_theta": 10000.0,
    "tie_word_embeddings": True, "attention_dropout": 0.0, "use_sliding_window": False,
    "bos_token_id": None, "eos_token_id": 0, "pad_token_id": 2, "torch_dtype": "float32",
}  # fmt: skip


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


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--rows", type=int, default=90_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--batch", type=int, default=48)
    args = parser.parse_args()
    config = TrainConfig(
        seed=args.seed, mode="full", dtype="float32", remat="none", lr=args.lr, warmup_steps=100,
        batch_examples=args.batch, schedule="cosine", weight_decay=0.05, adam_b2=0.98, max_length=256,
    )  # fmt: skip
    records = upbringing(args.rows, args.seed)
    with new_folder(args.out) as folder:
        sample = records[:5000] + preferences(500, args.seed, popular=False)
        tokenizer = make_tokenizer(folder, sample, vocab_size=1024)
        examples, report = tokenize_records(records, ChatFormat(tokenizer), config.max_length, "drop")
        print(report)
        plan = StepPlan(examples, config.batch_examples, config.epochs, config.seed, config.shuffle)
        model_config = {**_CONFIG, "vocab_size": len(tokenizer)}
        spec = spec_from_config(model_config, "nano")
        (folder / "config.json").write_text(json.dumps(model_config, indent=2) + "\n")

        def save(step: int, state: Any) -> None:
            if step % 200 == 0 or step == plan.num_steps:
                save_params(folder, state.params, spec)

        train(
            spec,
            make_mesh(MeshConfig(), jax.devices()[:1]),
            Frozen(None, (), jnp.float32(1.0), jax.random.key(args.seed)),
            init_params(spec, args.seed),
            plan,
            config,
            folder / "metrics.jsonl",
            label="nano",
            on_step=save,
        )


if __name__ == "__main__":
    main()
