"""What was measured, for notebooks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sgtr_jax.report.tables import COLUMNS, read_runs

if TYPE_CHECKING:
    import pandas as pd


def load_results(*runs: str | Path) -> pd.DataFrame:
    """The measurements of one run folder or several: condition, seed, evaluation, metric, value and n, a row each.

    Of several runs the run's name stands before each condition. What is not measured yet has no row. Raises InputError
    for a folder that is no run, or that holds no measurement.
    """
    import pandas as pd

    run = read_runs([Path(one) for one in runs])
    return pd.DataFrame([{name: getattr(row, name) for name in COLUMNS} for row in run.measurements], columns=COLUMNS)
