"""`sgtr --print-completion SHELL`: a script that completes commands and flags, made by shtab from the parsers."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from sgtr_jax.errors import InputError

SHELLS = ("bash", "zsh", "tcsh", "fish")


class PrintCompletion(argparse.Action):
    """Print the script and end."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[object] | None,
        option_string: str | None = None,
    ) -> None:
        """See `argparse.Action`. Raises InputError without shtab, or with one that does not know the shell."""
        try:
            import shtab
        except ImportError:
            raise InputError(f"{option_string} needs shtab: pip install 'sgtr-jax[completion]'") from None
        if values not in shtab.SUPPORTED_SHELLS:
            raise InputError(f"{option_string} {values}: this shtab knows {', '.join(shtab.SUPPORTED_SHELLS)}")
        print(shtab.complete(parser, str(values)))
        parser.exit()
