"""Training rows as files of an account: uploaded once, waited for while processed, not reused when broken."""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Sequence

import openai
from openai.types import FileObject

from sgtr_jax.data.records import Record
from sgtr_jax.errors import RunError

_MOST_SECONDS = 1800.0  # that a file is waited for; the openai package's own bound
_LEFT_SECONDS = 3600  # a file that expires sooner is uploaded anew
_FAILED = ("error", "failed")
_ENDED = ("processed", "succeeded", "deleted", *_FAILED)
_OF_A_FILE = re.compile(r"\b(files?|states?|status|import\w*|ready|process\w*)\b", re.IGNORECASE)
_NOT_READY = re.compile(
    r"\bfile\b.*(not (yet )?(ready|processed)|being processed|processing)", re.IGNORECASE | re.DOTALL
)


def rows_as_file(records: Sequence[Record]) -> tuple[str, bytes]:
    """The name and the content of the file of these rows. Equal rows have equal names."""
    lines = [json.dumps({"messages": list(record.messages)}, ensure_ascii=False) for record in records]
    data = ("\n".join(lines) + "\n").encode()
    return f"sgtr-{hashlib.sha256(data).hexdigest()[:32]}.jsonl", data


def uploaded(client: openai.OpenAI, name: str, data: bytes) -> str:
    """The id of a file of the account with this content, uploaded if there is none that can be used.

    A file that the provider could not process, or that is about to expire, is not used again.
    """
    for file in client.files.list(purpose="fine-tune"):
        if file.filename == name and file.bytes == len(data) and _is_usable(file):
            return file.id
    return client.files.create(file=(name, data), purpose="fine-tune").id


class FileWait:
    """Waits between two tries to start a job whose file is being processed, for half an hour in all."""

    def __init__(self, client: openai.OpenAI, file_id: str, seconds: float) -> None:
        self._client, self._file_id, self._seconds = client, file_id, seconds
        self._end = time.monotonic() + _MOST_SECONDS
        self._was_processed = False

    def helps(self, error: openai.APIStatusError) -> bool:
        """Whether a job was refused only because its file is, or just was, still being processed.

        Raises RunError if the provider could not process the file.
        """
        if error.status_code >= 500 or error.param not in (None, "training_file"):
            return False
        file = self._client.files.retrieve(self._file_id)
        if file.status in _FAILED:
            why = file.status_details or message_of(error)
            raise RunError(f"the provider could not process the uploaded rows: {why}. Running again uploads them anew")
        # Providers say it in many words; the file's own status is what counts.
        said = message_of(error)
        is_about_it = error.param == "training_file" or _OF_A_FILE.search(said) is not None
        if _NOT_READY.search(said) or (is_about_it and file.status not in _ENDED):
            return True
        # It may have become ready between the two requests, so it is tried once more.
        late, self._was_processed = self._was_processed, file.status in _ENDED
        return is_about_it and not late

    def wait(self, error: openai.APIStatusError) -> None:
        """Sleep, each time a little longer. Raises RunError when the time is over."""
        if time.monotonic() + self._seconds > self._end:
            minutes = _MOST_SECONDS / 60
            raise RunError(f"the uploaded rows were not processed within {minutes:.0f} minutes: {message_of(error)}")
        time.sleep(self._seconds)
        self._seconds = min(1.5 * self._seconds, 30.0)


def message_of(error: openai.APIError) -> str:
    """What a provider said of an error."""
    body = error.body
    said = body.get("message") if isinstance(body, dict) else None
    return str(said or error.message)


def _is_usable(file: FileObject) -> bool:
    lasts = file.expires_at is None or file.expires_at > time.time() + _LEFT_SECONDS
    return lasts and file.status not in (*_FAILED, "deleted")
