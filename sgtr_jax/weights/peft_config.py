"""What a PEFT `adapter_config.json` says about its adapter, with PEFT's own meaning of every key.

Which modules an adapter is on, and with what rank and scale, follows `peft/tuners/tuners_utils.py::
check_target_module_exists` and `peft/utils/other.py::get_pattern_key`. A key that is not understood is an error: it
could change the update that is added to the base.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import regex

from sgtr_jax.errors import InputError
from sgtr_jax.files import read_json
from sgtr_jax.json_types import Json, JsonObject

CONFIG = "adapter_config.json"

# Keys that do not change the update: names, versions, how PEFT loads, and options of initialisations that are refused.
_WITHOUT_EFFECT = {
    "auto_mapping", "base_model_name_or_path", "corda_config", "ensure_weight_tying", "eva_config", "inference_mode",
    "lora_ga_config", "loftq_config", "megatron_core", "peft_type", "peft_version", "qalora_group_size", "revision",
    "runtime_config", "task_type", "unsloth_fixed", "unsloth_version",
}  # fmt: skip
# Keys that would change the mathematics; each must be absent, null or have this value.
_PLAIN: JsonObject = {
    "bias": "none", "use_dora": False, "fan_in_fan_out": False, "modules_to_save": [], "lora_bias": False,
    "layer_replication": [], "target_parameters": [], "trainable_token_indices": [], "use_qalora": False,
    "use_bdlora": False, "alora_invocation_tokens": [], "arrow_config": {}, "kasa_config": {}, "velora_config": {},
    "monteclora_config": {}, "megatron_config": {},
}  # fmt: skip
_READ = {
    "r", "lora_alpha", "lora_dropout", "use_rslora", "target_modules", "exclude_modules", "layers_to_transform",
    "layers_pattern", "rank_pattern", "alpha_pattern", "init_lora_weights",
}  # fmt: skip
# Starts that leave the base as it is. pissa, olora, loftq, corda, lora_ga and others change what the base is, and what
# a start that is not known here does nobody can say.
_STARTS = (True, False, None, "gaussian", "orthogonal")


_PATTERN_SECONDS = 1.0  # for one module


@dataclass(frozen=True)
class PeftConfig:
    """The settings of a LoRA folder."""

    where: str
    rank: int
    alpha: float
    rslora: bool
    dropout: float
    target_modules: tuple[str, ...] | str
    exclude_modules: tuple[str, ...] | str
    layers: tuple[int, ...] | None
    layers_pattern: tuple[str, ...]
    rank_pattern: Mapping[str, int]
    alpha_pattern: Mapping[str, float]

    def is_on(self, module: str) -> bool:
        """Whether the adapter is on a module, such as `model.layers.3.self_attn.q_proj`."""
        if self._named(self.exclude_modules, module):
            return False
        if self.target_modules == "all-linear":
            return True
        if isinstance(self.target_modules, str) or module in self.target_modules:
            return self._named(self.target_modules, module)
        return self._named(self.target_modules, module) and self._in_layers(module)

    def rank_of(self, module: str) -> int:
        """The rank on a module."""
        return self.rank_pattern.get(_pattern(self.rank_pattern, module), self.rank)

    def scale_of(self, module: str) -> float:
        """What the update of a module is multiplied by: alpha / r, or alpha / sqrt(r) with rsLoRA."""
        rank = self.rank_of(module)
        alpha = self.alpha_pattern.get(_pattern(self.alpha_pattern, module), self.alpha)
        return alpha / (math.sqrt(rank) if self.rslora else rank)

    def _named(self, names: tuple[str, ...] | str, module: str) -> bool:
        if isinstance(names, str):
            return bool(names) and _match(names, module, self.where, whole=True) is not None
        return any(module == name or module.endswith(f".{name}") for name in names)

    def _in_layers(self, module: str) -> bool:
        if self.layers is None:
            return True
        for pattern in self.layers_pattern or (r"[^.]*",):
            found = _match(_layer_pattern(pattern), module, self.where)
            if found:
                return found["layer"] is not None and int(found["layer"]) in self.layers
        return False


def read_peft_config(folder: Path) -> PeftConfig:
    """The settings of an adapter folder. Raises InputError for other kinds of adapters, and for unknown keys."""
    path = folder / CONFIG
    if not path.is_file():
        raise InputError(f"{folder}: no {CONFIG}; expected a PEFT adapter folder")
    data, where = read_json(path), str(path)
    if data.get("peft_type") != "LORA":
        raise InputError(f"{where}: peft_type is {data.get('peft_type')!r}; only 'LORA' is supported")
    unknown = sorted(set(data) - _WITHOUT_EFFECT - set(_PLAIN) - _READ)
    # Off in a newer PEFT is off here; 0 may be a number that means something.
    said = [key for key in unknown if not (data[key] is None or data[key] is False or data[key] in ([], {}))]
    if said:
        raise InputError(
            f"{where}: keys not understood: {', '.join(said)}. They may change what the adapter adds to the base, so "
            "it is not loaded"
        )
    for key, plain in _PLAIN.items():
        value = data.get(key)
        if not (value is None or value == plain or (value in ([], {}, False) and value is not plain)):
            raise InputError(f"{where}: {key} is {value!r:.80}, which is not supported (expected {plain!r})")
    _check_start(data.get("init_lora_weights", True), where)
    read = _Reader(data, where)
    return PeftConfig(
        where, read.rank("r", data.get("r")), read.positive("lora_alpha", data.get("lora_alpha")),
        read.flag("use_rslora"), read.dropout(), read.names("target_modules", required=True),
        read.names("exclude_modules"), read.layers(), read.patterns_of_layers(),
        {key: read.rank(f"rank_pattern[{key!r}]", value) for key, value in read.pattern("rank_pattern").items()},
        {key: read.positive(f"alpha_pattern[{key!r}]", value) for key, value in read.pattern("alpha_pattern").items()},
    )  # fmt: skip


def _check_start(value: Json, where: str) -> None:
    if isinstance(value, bool) or value is None or (isinstance(value, str) and value.lower() in _STARTS):
        return
    raise InputError(
        f"{where}: init_lora_weights is {value!r:.40}. Starts other than PEFT's plain ones change the base's weights, "
        "so the adapter does not fit the base as it is published. Convert it with PEFT (save_pretrained with "
        "path_initial_model_for_weight_conversion), which writes init_lora_weights: true, or merge it"
    )


class _Reader:
    """Typed access; the key and the file are in every error."""

    def __init__(self, data: Mapping[str, Json], where: str) -> None:
        self._data, self._where = data, where

    def _refuse(self, key: str, value: Json, expected: str) -> InputError:
        return InputError(f"{self._where}: {key} is {value!r:.80}; expected {expected}")

    def rank(self, key: str, value: Json) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= 65536:
            raise self._refuse(key, value, "a whole number from 1 to 65536")
        return value

    def positive(self, key: str, value: Json) -> float:
        if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value < 1e9:
            raise self._refuse(key, value, "a number above 0")
        return float(value)

    def flag(self, key: str) -> bool:
        value = self._data.get(key)
        if value is not None and not isinstance(value, bool):
            raise self._refuse(key, value, "true or false")
        return bool(value)

    def dropout(self) -> float:
        value = self._data.get("lora_dropout", 0.0)
        if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value < 1:
            raise self._refuse("lora_dropout", value, "a number from 0 to less than 1")
        return float(value)

    def names(self, key: str, required: bool = False) -> tuple[str, ...] | str:
        value = self._data.get(key)
        if value is None and not required:
            return ()
        if isinstance(value, str) and value:
            if value.lower() == "all-linear":
                return "all-linear"
            _compiled(value, self._where)
            return value
        if not isinstance(value, list) or not all(isinstance(one, str) for one in value) or (required and not value):
            raise self._refuse(key, value, "a list of module names, or a regular expression")
        return tuple(sorted(value))

    def layers(self) -> tuple[int, ...] | None:
        value = self._data.get("layers_to_transform")
        if value is None or value == []:
            return None
        listed = value if isinstance(value, list) else [value]
        if not all(isinstance(one, int) and not isinstance(one, bool) and one >= 0 for one in listed):
            raise self._refuse("layers_to_transform", value, "numbers of layers")
        return tuple(listed)

    def patterns_of_layers(self) -> tuple[str, ...]:
        value = self._data.get("layers_pattern") or []
        listed = [value] if isinstance(value, str) else value
        if not isinstance(listed, list) or not all(isinstance(one, str) for one in listed):
            raise self._refuse("layers_pattern", value, "names of lists of layers")
        for pattern in listed:
            _compiled(_layer_pattern(pattern), self._where)
        return tuple(listed)

    def pattern(self, key: str) -> Mapping[str, Json]:
        value = self._data.get(key)
        if value is None:
            return {}
        if not isinstance(value, dict):
            raise self._refuse(key, value, "an object of module names")
        for name in value:
            _compiled(_module_pattern(name), self._where)
        return value


def _pattern(patterns: Mapping[str, object], module: str) -> str:
    """The first pattern that names the module, by its whole dotted name or its end."""
    return next((name for name in patterns if _match(_module_pattern(name), module, "adapter_config.json")), module)


def _module_pattern(name: str) -> str:
    return rf"(.*\.)?({name})$"


def _layer_pattern(name: str) -> str:
    return rf"(?:^|.*?\.){name}\.(?P<layer>\d+)\."


def _compiled(pattern: str, where: str) -> re.Pattern[str]:
    try:
        # The one matches, the other is what PEFT reads it with: a pattern must be one for both.
        regex.compile(pattern)
        if "[[:" in pattern:
            raise re.error("classes such as [[:alpha:]] are not Python's")
        return re.compile(pattern)
    except (re.error, regex.error, RecursionError, OverflowError) as error:
        raise InputError(f"{where}: {pattern!r:.60} is no regular expression: {error}") from None


def _match(pattern: str, module: str, where: str, whole: bool = False) -> regex.Match[str] | None:
    """A pattern at a module's name, its start or all of it. Raises InputError for one that takes more than a second.

    Python's own `re` cannot be stopped, and some patterns take years.
    """
    try:
        return (regex.fullmatch if whole else regex.match)(pattern, module, timeout=_PATTERN_SECONDS)
    except TimeoutError:
        raise InputError(
            f"{where}: the regular expression {pattern!r:.60} takes too long; list the modules instead"
        ) from None
