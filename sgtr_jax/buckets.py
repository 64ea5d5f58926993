"""Places in a bucket (gs://BUCKET/FOLDER) where a folder could be given, through etils.epath and fsspec."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from etils import epath

from sgtr_jax.errors import InputError, RunError


def is_address(place: str) -> bool:
    """Whether it is the address of a bucket rather than a path of this machine."""
    return "://" in place


@contextlib.contextmanager
def reaching(place: str) -> Iterator[None]:
    """Errors of what happens inside, in words that name `place`, if it is an address."""
    if not is_address(place):
        yield
        return
    try:
        yield
    except (InputError, RunError):
        raise
    except ImportError as error:
        raise InputError(f"{place}: {error} (gs:// needs: pip install 'sgtr-jax[gcs]')") from None
    except Exception as error:
        said = str(error).splitlines()[0] if str(error) else ""
        raise RunError(f"{place}: cannot be read or written: {type(error).__name__}: {said}") from error


def copy_once(source: epath.Path, target: Path) -> None:
    """Copy a file from a bucket unless it is here; it appears when complete."""
    if target.exists():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".tmp-{target.name}-{os.getpid()}")
    try:
        source.copy(temporary)
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
