"""Keys of APIs: found in what is to leave this machine, so that none of them does."""

from __future__ import annotations

import io
import os
import re
import sys
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

if sys.version_info < (3, 14):
    import zipfile_zstd  # noqa: F401 - lets zipfile read zstd, in which Inspect packs its logs

_NAMES = re.compile(r"KEY|TOKEN|SECRET|PASSWORD|CREDENTIAL", re.IGNORECASE)
_SHORTEST = 8  # characters of a value that is looked for
# The forms of keys: OpenAI and Anthropic, Hugging Face, Google, GitHub, AWS, Weights & Biases' sign-in, private keys.
_FORMS = re.compile(
    r"\bsk-[A-Za-z0-9_-]{20,}|\bhf_[A-Za-z0-9]{30,}|\bAIza[A-Za-z0-9_-]{35}|\bya29\.[A-Za-z0-9_-]{20,}"
    r"|\bgh[pousr]_[A-Za-z0-9]{36}|\bAKIA[A-Z0-9]{16}\b|\bBearer [A-Za-z0-9._-]{20,}|-----BEGIN [A-Z ]*PRIVATE KEY"
    r"|://[^/\s:@\"]+:[^/\s:@\"]+@"
)


def own_keys(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Names and values of the environment's keys."""
    return {
        name: value for name, value in environment.items() if _NAMES.search(name) and len(value.strip()) >= _SHORTEST
    }


def keys_in(path: Path, own: Mapping[str, str]) -> Iterator[str]:
    """What of a file is a key: `the value of NAME`, or `what looks like a key` with its first characters.

    Looks into zip files, which logs of Inspect are.
    """
    yield from _keys_in(path.read_bytes(), own)


def _keys_in(data: bytes, own: Mapping[str, str]) -> Iterator[str]:
    if data.startswith(b"PK") and zipfile.is_zipfile(io.BytesIO(data)):
        try:
            with zipfile.ZipFile(io.BytesIO(data)) as archive:
                for name in archive.namelist():
                    yield from _keys_in(archive.read(name), own)
        except (zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
            yield f"a zip that cannot be looked into ({error})"
        return
    text = data.decode("utf-8", errors="ignore")
    for name, value in own.items():
        if value in text:
            yield f"the value of {name}"
    for found in _FORMS.finditer(text):
        if found[0] not in own.values():
            yield f"what looks like a key ({found[0][:6]}...)"


def without_keys(text: str, own: Mapping[str, str]) -> str:
    """`text` with every key replaced."""
    for name, value in own.items():
        text = text.replace(value, f"[{name}]")
    return _FORMS.sub("[looks like a key]", text)
