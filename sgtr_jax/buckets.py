"""Places in a bucket (gs://BUCKET/FOLDER) where a folder could be given, through etils.epath and fsspec."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from etils import epath

from sgtr_jax.errors import InputError, RunError
from sgtr_jax.files import write_bytes


def is_address(path: str) -> bool:
    """Whether it is the address of a bucket rather than a path of this machine."""
    return "://" in path


@contextlib.contextmanager
def translate_storage_errors(path: str) -> Iterator[None]:
    """Errors of what happens inside, in words that name `path`, if it is an address."""
    if not is_address(path):
        yield
        return
    try:
        yield
    except (InputError, RunError):
        raise
    except ImportError as error:
        raise InputError(f"{path}: {error} (gs:// needs: pip install 'sgtr-jax[gcs]')") from None
    except Exception as error:  # gcsfs, aiohttp and google.auth each have errors of their own
        said = str(error).splitlines()[0] if str(error) else ""
        raise RunError(f"{path}: cannot be read or written: {type(error).__name__}: {said}") from error


def copy_once(source: epath.Path, target: Path) -> None:
    """Copy a file from a bucket unless it is here; it appears when complete."""
    if not target.exists():
        write_bytes(target, source.read_bytes())
