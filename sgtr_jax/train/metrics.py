"""Metrics of a run: metrics.jsonl always, TensorBoard and Weights & Biases where configured."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING

from sgtr_jax.errors import InputError, RunError
from sgtr_jax.json_types import Json
from sgtr_jax.train.config import LogConfig

if TYPE_CHECKING:
    import wandb
    from tensorboardX import SummaryWriter

Row = dict[str, float]


def check_log(config: LogConfig) -> None:
    """Raises InputError when a configured logger is not installed."""
    for wanted, module in ((config.tensorboard, "tensorboardX"), (config.wandb is not None, "wandb")):
        if wanted and importlib.util.find_spec(module) is None:
            raise InputError(
                f"log: {module} is not installed; pip install 'sgtr-jax[logging]', or leave the setting out"
            )


class MetricsLog:
    """Rows of one run, one a step. Rows after `resume_from` are dropped: those steps will be taken again."""

    def __init__(
        self, folder: Path, name: str, config: LogConfig, settings: Mapping[str, Json], resume_from: int
    ) -> None:
        self._stream: IO[str] | None = None
        self._board: SummaryWriter | None = None
        self._wandb: wandb.Run | None = None
        import jax  # here: the settings of a log are checked without it

        if jax.process_index() != 0:
            return
        path = folder / "metrics.jsonl"
        kept = path.read_text().split("\n")[:resume_from] if resume_from else []
        path.write_text("".join(f"{line}\n" for line in kept))
        self._stream = path.open("a")
        if config.tensorboard:
            from tensorboardX import SummaryWriter

            self._board = SummaryWriter(str(folder / "tensorboard"), purge_step=resume_from + 1)
        if config.wandb is not None:
            import wandb

            self._wandb = wandb.init(
                project=config.wandb, name=name, config=settings, dir=str(folder), reinit="create_new"
            )

    def write(self, row: Row) -> None:
        """Add a step. Only the first process of a job writes. Raises RunError when the disk is full."""
        if self._stream is None:
            return
        try:
            self._stream.write(json.dumps(row) + "\n")
            self._stream.flush()
        except OSError as error:
            raise RunError(f"{self._stream.name}: could not be written: {error.strerror or error}") from error
        step, values = int(row["step"]), {key: value for key, value in row.items() if key != "step"}
        if self._board is not None:
            for key, value in values.items():
                self._board.add_scalar(key, value, step)
        if self._wandb is not None:
            self._wandb.log(values, step=step)

    def close(self) -> None:
        """Flush everything."""
        if self._stream is not None:
            self._stream.close()
        if self._board is not None:
            self._board.close()
        if self._wandb is not None:
            self._wandb.finish()
