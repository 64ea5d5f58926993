"""Reading a model folder's tokenizer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol, overload

from sgtr_jax.errors import InputError
from sgtr_jax.files import read_json, read_text
from sgtr_jax.json_types import Json

TOKENIZER_FILES = (
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.json",
    "merges.txt", "chat_template.jinja", "generation_config.json",
)  # fmt: skip
# Those that transformers reads for a fast tokenizer.
_OBJECTS = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")


class TokenizerBackend(Protocol):
    """The tokenizer of the `tokenizers` library inside."""

    def to_str(self) -> str:
        """All of it as JSON."""
        ...


class Tokenizer(Protocol):
    """What is used of `transformers.PreTrainedTokenizerFast`."""

    name_or_path: str
    chat_template: str | None
    eos_token_id: int | None

    @property
    def special_tokens_map(self) -> Mapping[str, str]:
        """The special tokens by their purpose."""
        ...

    @property
    def all_special_tokens(self) -> Sequence[str]:
        """The special tokens."""
        ...

    @property
    def added_tokens_decoder(self) -> Mapping[int, object]:
        """The tokens that were added to the vocabulary, by id."""
        ...

    @property
    def backend_tokenizer(self) -> TokenizerBackend:
        """The tokenizer inside."""
        ...

    def __len__(self) -> int:
        """The number of tokens, those that were added among them."""
        ...

    # The ids of a text, or of many, under `input_ids`.
    @overload
    def __call__(self, text: str) -> Mapping[str, list[int]]: ...
    @overload
    def __call__(self, text: Sequence[str], *, add_special_tokens: bool) -> Mapping[str, list[list[int]]]: ...

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        """The ids of a text."""
        ...

    def decode(self, token_ids: Sequence[int], *, skip_special_tokens: bool = False) -> str:
        """The text of ids."""
        ...

    def batch_decode(self, sequences: Sequence[Sequence[int]]) -> list[str]:
        """The texts of many ids."""
        ...

    def convert_tokens_to_ids(self, tokens: str) -> int:
        """The id of a token."""
        ...

    def convert_ids_to_tokens(self, ids: int) -> str:
        """The token of an id."""
        ...


def load_tokenizer(folder: Path) -> Tokenizer:
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
        tokenizer: Tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
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


def _one_template(template: Json, folder: Path) -> str | None:
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
