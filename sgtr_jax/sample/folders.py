"""Where a model lies: a folder, one that is downloaded from the hub, or one that stands for a bucket's."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sgtr_jax import nano
from sgtr_jax.buckets import is_address
from sgtr_jax.data.tokenizer import TOKENIZER_FILES
from sgtr_jax.errors import InputError, RunError

# What is read of a PEFT adapter's folder.
ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors", *TOKENIZER_FILES)


@dataclass(frozen=True)
class HubFiles:
    """A repository of the hub at one commit: the names of its files."""

    commit: str
    names: tuple[str, ...]


def hub_files(name: str, revision: str) -> HubFiles:
    """What a repository has at a commit, tag or branch. Raises InputError for one that is not there."""
    from huggingface_hub import HfApi

    with _hub_errors(name):
        found = HfApi().model_info(name, revision=revision)
    names = tuple(sibling.rfilename for sibling in found.siblings or ())
    if found.sha is None:
        raise InputError(f"model {name!r}: the hub does not say which commit {revision!r} is; give the commit itself")
    return HubFiles(found.sha, names)


def adapter_folder(name: str, revision: str) -> Path:
    """The local folder of an adapter on the hub, which is downloaded once."""
    return _downloaded(f"{name}@{revision}", [*ADAPTER_FILES])


def resolve_folder(name: str, weights: bool = True) -> Path:
    """The local folder of a model: `nano`, a path, or a hub id, which is downloaded once (or its settings alone).

    A hub id may have a commit, tag or branch behind an `@`.

    Of a converted model in a bucket it holds all but the parameters, which are restored from there.
    """
    if name == "nano":
        return nano.FOLDER
    if is_address(name):
        from sgtr_jax.weights.converted import described  # slow to import, and rarely needed

        return described(name)
    path = Path(name)
    if path.is_dir():
        return path
    if name.count("/") != 1 or name.startswith(("/", ".")):
        raise InputError(
            f"model {name!r}: no such folder, and not a hub id (owner/name). Give a Hugging Face model folder, "
            "a hub id such as Qwen/Qwen2.5-0.5B-Instruct, or nano"
        )
    settings = ["config.json", *TOKENIZER_FILES]
    return _downloaded(name, ["*.safetensors", "*.json", "*.jinja", "merges.txt"] if weights else settings)


def folder_here(name: str) -> Path | None:
    """The local folder of a model that is here: as `resolve_folder`, but nothing is downloaded.

    None for a hub id that was not downloaded. Raises InputError for what is neither a folder nor a hub id.
    """
    if name.count("/") != 1 or name.startswith(("/", ".")) or is_address(name) or Path(name).is_dir():
        return resolve_folder(name)
    from huggingface_hub import try_to_load_from_cache

    repository, _, revision = name.partition("@")
    cached = try_to_load_from_cache(repository, "config.json", revision=revision or None)
    return Path(cached).parent if isinstance(cached, str) else None


def _downloaded(name: str, patterns: list[str]) -> Path:
    """Folder of the hub's cache with these files of a repository; connections that break are taken up again."""
    from huggingface_hub import snapshot_download

    repository, _, revision = name.partition("@")
    with _hub_errors(name):
        return Path(snapshot_download(repository, revision=revision or None, allow_patterns=patterns))


@contextlib.contextmanager
def _hub_errors(name: str) -> Iterator[None]:
    """The hub's refusals as InputError, broken connections as RunError."""
    from httpx2 import HTTPError
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        yield
    except GatedRepoError:
        raise InputError(
            f"model {name!r}: who downloads it must have been let in: ask on its page, and put HF_TOKEN into the "
            "environment or .env"
        ) from None
    except RepositoryNotFoundError:
        raise InputError(
            f"model {name!r}: neither a local folder nor a repository on the hub (a private one wants HF_TOKEN)"
        ) from None
    except RevisionNotFoundError:
        raise InputError(f"model {name!r}: the repository on the hub has no such commit, tag or branch") from None
    except (HfHubHTTPError, LocalEntryNotFoundError) as error:
        raise InputError(f"model {name!r}: no such local folder, and the hub cannot be reached: {error}") from None
    except (HTTPError, OSError) as error:
        raise RunError(
            f"model {name!r}: the download broke off: {error}. The same command goes on with the files that are "
            "missing; HF_HOME says where they are kept"
        ) from None
