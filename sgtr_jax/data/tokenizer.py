"""Reading a model folder's tokenizer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sgtr_jax.errors import InputError
from sgtr_jax.files import read_json, read_text

TOKENIZER_FILES = (
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.json",
    "merges.txt", "chat_template.jinja", "generation_config.json",
)  # fmt: skip
# Those that transformers reads for a fast tokenizer.
_OBJECTS = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")


def load_tokenizer(folder: Path) -> Any:
    """The fast tokenizer stored in `folder`, with one chat template or none.

    Raises InputError, naming the folder and where possible the file, when there is none, when a file is damaged, or
    when the tokenizer encodes to nothing.
    """
    # transformers is slow to import; only commands that need text pay for it.
    from transformers import PreTrainedTokenizerFast

    if not (folder / "tokenizer.json").is_file():
        raise InputError(f"{folder}: no tokenizer.json; copy the model's tokenizer files into the folder")
    for name in _OBJECTS:
        if (folder / name).exists():
            read_json(folder / name)
    if (folder / "chat_template.jinja").exists():
        read_text(folder / "chat_template.jinja")
    try:
        # Not AutoTokenizer: it may replace a custom tokenizer.json by the architecture's own class.
        tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
        encoded = tokenizer.encode("test", add_special_tokens=False)
    except Exception as error:  # the tokenizers library raises Exception itself for files it cannot read
        raise InputError(
            f"{folder}: the tokenizer cannot be made from its files ({', '.join(_OBJECTS)}): {error!s:.200}. Get them "
            "again from where the model is from"
        ) from error
    if not encoded:
        raise InputError(f"{folder}/tokenizer.json: encodes 'test' to nothing; the file is damaged")
    tokenizer.chat_template = _one_template(tokenizer.chat_template, folder)
    return tokenizer


def _one_template(template: Any, folder: Path) -> str | None:
    """The template that conversations without tools are formed by, where a folder has several by name."""
    if isinstance(template, dict) and template:
        if "default" not in template:
            raise InputError(
                f"{folder}: has chat templates named {', '.join(map(str, template))}, and none named default; keep the "
                "one to be used as chat_template.jinja"
            )
        template = template["default"]
    if template is not None and not isinstance(template, str):
        raise InputError(f"{folder}: chat_template is {template!r:.60}; expected the text of a template")
    return template or None
