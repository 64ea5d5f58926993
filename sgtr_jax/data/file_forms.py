"""What a file of rows seems to be that is neither JSONL nor one JSON list, by the first line that it has."""

from __future__ import annotations

import json
import re

_ASKED = "expected one JSON object a line, or one list of them"


def seems(line: str) -> str | None:
    """What a file with this first line seems to be and what to do, as a sentence; None where nothing is known.

    A line that is a JSON object itself says nothing: the file is JSONL, and another line of it is wrong.
    """
    text = line.strip()
    if text.startswith("{"):
        return _of_object(text)
    for pattern, what in _LINES:
        if re.match(pattern, text, re.IGNORECASE):
            return f"{what}; {_ASKED}"
    return None


_LINES = (
    (r"<(?:!doctype|html|\?xml)", "This seems to be a web page or XML, of a download that failed perhaps"),
    (r"//|/\*|#", "JSON has no comments, and the first line seems to be one"),
    (r"[^\t{\[]+\t", "This seems to be a table whose columns are divided by tabs: save it as CSV, named .csv"),
    (r"- |[\w-]+:(?:\s|$)|---$", "This seems to be YAML"),
    (r"[\w\" -]+(?:,[\w\" -]+)+$", "This seems to be a CSV table: name it .csv"),
)


def _of_object(text: str) -> str | None:
    """The same of a line that begins with `{`."""
    try:
        found, end = json.JSONDecoder().raw_decode(text)
    except json.JSONDecodeError:
        if re.match(r"\{\s*'", text):
            return f"This seems to be Python's form of a dict: write it with json.dumps; {_ASKED}"
        # A line of indented JSON ends where something more is expected; one that was cut short hardly ever does.
        if text.endswith(("{", "[", ",")):
            return f"This seems to be one JSON object over several lines: write each row on a line of its own; {_ASKED}"
        return None
    except (RecursionError, ValueError):  # of nesting, and of numbers with thousands of digits
        return None
    rest = text[end:].strip()
    if rest == ",":
        return "The rows end with commas: leave those out, or put [ before the first and ] behind the last row"
    if isinstance(found, dict) and re.match(r",?\s*\{", rest):
        return "Several objects stand in one line: write each row on a line of its own"
    return None
