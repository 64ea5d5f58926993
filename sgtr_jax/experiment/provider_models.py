"""Models of providers as Inspect has them, and what is missing to ask one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sgtr_jax.errors import InputError

if TYPE_CHECKING:
    import inspect_ai.model


def api_model_or_say(name: str, base_url: str | None, batch: bool = False) -> inspect_ai.model.Model:
    """An Inspect model behind an API. Raises InputError for a missing key or package, in the provider's own words."""
    from sgtr_eval.servers import api_model

    try:
        return api_model(name, base_url, batch)
    except Exception as error:  # noqa: BLE001 - said by whichever provider's package it is
        raise InputError(f"model {name!r}: {error}") from None
