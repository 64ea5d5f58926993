"""Reading a model folder's tokenizer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sgtr_jax.errors import InputError

TOKENIZER_FILES = (
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.json",
    "merges.txt", "chat_template.jinja", "generation_config.json",
)  # fmt: skip


def load_tokenizer(folder: Path) -> Any:
    """The fast tokenizer stored in `folder`. Raises InputError when there is none or it encodes to nothing."""
    # transformers is slow to import; only commands that need text pay for it.
    from transformers import PreTrainedTokenizerFast

    if not (folder / "tokenizer.json").exists():
        raise InputError(f"{folder}: no tokenizer.json; copy the model's tokenizer files into the folder")
    # Not AutoTokenizer: it may replace a custom tokenizer.json by the architecture's own class.
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    if not tokenizer.encode("test", add_special_tokens=False):
        raise InputError(f"{folder}/tokenizer.json: encodes 'test' to nothing; the file is damaged")
    return tokenizer
