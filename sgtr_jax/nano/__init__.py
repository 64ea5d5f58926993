"""`nano`: the demo model. Its weights ship in `model/`; `python -m sgtr_jax.finetune.make_nano` made them."""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).parent / "model"
