"""What is meant by a name that does not exist: the name that other programs have for a thing, or a misspelt one."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

# The words of transformers, peft, trl, vLLM and people, and what is called so here; the first one that exists counts.
SYNONYMS: dict[str, tuple[str, ...]] = {
    "learning_rate": ("lr",),
    "output_dir": ("out",),
    "output": ("out",),
    "num_train_epochs": ("epochs",),
    "num_epochs": ("epochs",),
    "n_epochs": ("epochs",),
    "lora_r": ("lora.rank",),
    "lora_rank": ("lora.rank",),
    "r": ("lora.rank", "rank"),
    "lora_alpha": ("lora.alpha", "alpha"),
    "lora_dropout": ("lora.dropout", "dropout"),
    "target_modules": ("lora.targets", "targets"),
    "lora_target_modules": ("lora.targets",),
    "use_rslora": ("lora.rslora", "rslora"),
    "init_lora_weights": ("lora.init", "init"),
    "per_device_train_batch_size": ("batch_examples",),
    "train_batch_size": ("batch_examples",),
    "batch_size": ("batch_examples", "batch_rows"),
    "per_device_eval_batch_size": ("batch_rows",),
    "max_seq_length": ("max_length",),
    "max_seq_len": ("max_length",),
    "cutoff_len": ("max_length",),
    "truncation": ("overlong",),
    "warmup_ratio": ("warmup_steps",),
    "gradient_accumulation_steps": ("accumulate",),
    "gradient_checkpointing": ("remat",),
    "lr_scheduler_type": ("schedule",),
    "lr_scheduler": ("schedule",),
    "adam_beta1": ("adam_b1",),
    "adam_beta2": ("adam_b2",),
    "adam_epsilon": ("adam_eps",),
    "bf16": ("dtype",),
    "fp16": ("dtype",),
    "torch_dtype": ("dtype",),
    "load_in_8bit": ("base_dtype",),
    "attn_implementation": ("attention",),
    "save_steps": ("checkpoint.every_steps",),
    "save_total_limit": ("checkpoint.keep",),
    "report_to": ("log",),
    "model_name_or_path": ("model",),
    "model_name": ("model",),
    "base_model": ("model",),
    "lora": ("adapter",),
    "adapter_path": ("adapter",),
    "dataset": ("data",),
    "dataset_name": ("data",),
    "train_file": ("data",),
    "data_path": ("data",),
    "input": ("prompts", "data"),
    "max_new_tokens": ("max_tokens",),
    "num_return_sequences": ("n",),
    "num_samples": ("samples", "n"),
    "random_seed": ("seed", "seeds"),
    "seed": ("seeds",),
    "tasks": ("evaluations",),
    "evals": ("evaluations",),
    "system_prompt": ("system",),
    "tp": ("mesh.tensor",),
    "tensor_parallel_size": ("mesh.tensor",),
    # commands
    "finetune": ("train",),
    "fit": ("train",),
    "generate": ("sample",),
    "evaluate": ("eval",),
    "estimate": ("plan",),
    "dry_run": ("plan",),
    "new": ("init",),
    "create": ("init",),
    "config": ("settings",),
    "push": ("export",),
    "merge": ("export",),
    "rm": ("clean",),
}
_REMARKS = {
    ("warmup_ratio", "warmup_steps"): ", a number of steps",
    ("per_device_train_batch_size", "batch_examples"): ", the examples of a step on all devices together",
    ("bf16", "dtype"): ", for example dtype=bfloat16",
    ("fp16", "dtype"): ", float32 or bfloat16",
    ("load_in_8bit", "base_dtype"): ", int8",
}


def meant(name: str, known: Iterable[str]) -> str | None:
    """Which of `known` is meant by a name: see `called` and `close`. None where nothing is near."""
    names = list(known)
    return called(name, names) or close(name, names)


def called(name: str, known: Iterable[str]) -> str | None:
    """The one of which `name` is a synonym, or the end: `lora.rank` by `lora_r` and by `rank`."""
    names = list(known)
    word = _plain(name)
    for candidate in (*SYNONYMS.get(word, ()), word):
        ending = [one for one in names if _plain(one) == candidate or one.endswith(f".{candidate}")]
        if ending:
            return min(ending, key=lambda one: one.count("."))
    return None


def close(name: str, known: Iterable[str], cutoff: float = 0.5) -> str | None:
    """The one that is spelt nearly like `name`, or that ends with a name that is."""
    names = list(known)
    near = difflib.get_close_matches(name, names, n=1, cutoff=cutoff)
    if near:
        return near[0]
    ends = {one.rpartition(".")[2]: one for one in reversed(names)}
    near = difflib.get_close_matches(_plain(name), ends, n=1, cutoff=0.7)
    return ends[near[0]] if near else None


def remark(name: str, found: str) -> str:
    """What is other about `found` than about the synonym that was given."""
    return _REMARKS.get((name, found.rpartition(".")[2]), "")


def _plain(name: str) -> str:
    return name.lower().replace("-", "_")
