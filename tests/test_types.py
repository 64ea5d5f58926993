"""How much of the code says what its values are."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
MOST = 5.0  # times that `Any` may stand in 1,000 lines


def test_any_is_rare() -> None:
    files = [path for folder in ("sgtr_jax", "eval/sgtr_eval") for path in (ROOT / folder).rglob("*.py")]
    texts = {path.relative_to(ROOT): path.read_text() for path in files}
    found = {path: len(re.findall(r"\bAny\b", text)) for path, text in texts.items()}
    per_thousand = 1000 * sum(found.values()) / sum(len(text.splitlines()) for text in texts.values())
    most = sorted(found, key=lambda path: -found[path])[:5]
    assert len(files) > 200
    assert per_thousand <= MOST, f"{per_thousand:.1f}; most in {', '.join(f'{path} ({found[path]})' for path in most)}"
