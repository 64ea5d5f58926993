"""PEFT adapter folders: `adapter_config.json` and `adapter_model.safetensors`, both ways."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from sgtr_jax.distributed.mesh import Rules, leaf_sharding, put
from sgtr_jax.errors import InputError
from sgtr_jax.lora.adapter import Adapter
from sgtr_jax.lora.config import PROJECTIONS, LoraConfig
from sgtr_jax.models.spec import ModelSpec
from sgtr_jax.sealed import check_part
from sgtr_jax.weights.load import assemble
from sgtr_jax.weights.names import (
    PEFT_PREFIX,
    adapted_modules,
    adapter_modules,
    adapter_sources,
    parse_adapter_tensor,
    with_our_names,
)
from sgtr_jax.weights.peft_config import CONFIG, PeftConfig, read_peft_config
from sgtr_jax.weights.safetensors_file import StoredTensor, read_header
from sgtr_jax.weights.save import hf_tensors, write_safetensors

_WEIGHTS = "adapter_model.safetensors"
_LAYER = re.compile(r"(?<!\w)layers\.(\d+)\.")

Modules = dict[str, dict[str, StoredTensor]]  # module: {"A": [r, in], "B": [out, r]}


def read_adapter_config(folder: Path) -> LoraConfig:
    """Rank, alpha, rsLoRA, dropout and targets of an adapter folder. Raises InputError for other adapter kinds.

    Where ranks differ by module, the rank is the largest one.
    """
    config, modules = _stored(folder)
    return _lora_config(config, modules)


def _stored(folder: Path) -> tuple[PeftConfig, Modules]:
    """What an adapter folder holds, the one way in which adapters are read. Raises InputError for a damaged one."""
    check_part(folder)
    return read_peft_config(folder), _modules(folder)


def check_trainable(folder: Path) -> None:
    """Raise InputError for an adapter that training cannot go on with: its modules differ in rank, scale or layers."""
    config, modules = _stored(folder)
    on: dict[str, set[int]] = {}
    for module in modules:
        on.setdefault(module.rpartition(".")[2], set()).add(_layer_of(module))
    if config.rank_pattern or config.alpha_pattern or len(set(map(frozenset, on.values()))) > 1:
        raise InputError(
            f"{config.where}: the modules differ in rank, scale or layers, so training cannot start from this adapter; "
            "it can be a frozen one (--adapter)"
        )


def load_adapter(folder: Path, spec: ModelSpec, mesh: Mesh, rules: Rules) -> tuple[Adapter, LoraConfig]:
    """Load a PEFT adapter as float32. Raises InputError when it is of another base or rank.

    Modules of a smaller rank are filled up with zeros, and B carries what their scale is other than the adapter's, so
    that the update is PEFT's. A layer that the adapter is not on has zeros.
    """
    config, stored = _stored(folder)
    modules = with_our_names(stored, spec)
    lora = _lora_config(config, modules)
    _check_modules(config, modules, spec, folder)
    scale: Any = np.float32(lora.scale)  # a host value, which may go to the devices of many processes
    sources = adapter_sources(spec, lora.targets, lora.rank)
    tensors = {
        f"{PEFT_PREFIX}{module}.lora_{half}.weight": tensor
        for module, halves in modules.items()
        for half, tensor in halves.items()
    }
    wanted = {name: source.shape for source in sources.values() for name in source.names}
    alike = tensors.keys() == wanted.keys() and all(tensors[name].shape == shape for name, shape in wanted.items())
    if alike and not config.alpha_pattern:
        return Adapter(assemble(tensors, sources, mesh, rules, jnp.float32), scale), lora
    return Adapter(_filled_up(config, modules, spec, lora, mesh, rules), scale), lora


def _filled_up(
    config: PeftConfig, modules: Modules, spec: ModelSpec, lora: LoraConfig, mesh: Mesh, rules: Rules
) -> dict[str, dict[str, Any]]:
    """Factors `[L, r, in]` and `[L, r, out]` of modules that differ in rank or scale, or are not on all layers."""
    params: dict[str, dict[str, Any]] = {}
    for name in lora.targets:
        into, out = spec.projections[name]
        a = np.zeros((spec.num_layers, lora.rank, into), np.float32)
        b = np.zeros((spec.num_layers, lora.rank, out), np.float32)
        for module, (projection, layer) in adapter_modules(spec).items():
            if projection == name and module in modules:
                rank = modules[module]["A"].shape[0]
                a[layer, :rank] = modules[module]["A"].read()
                b[layer, :rank] = modules[module]["B"].read().T.astype(np.float32)
                b[layer, :rank] *= np.float32(config.scale_of(module) / lora.scale)
        params[name] = {
            half: put(array, leaf_sharding((name, half), array.shape, mesh, rules))
            for half, array in (("a", a), ("b", b))
        }
    return params


def _modules(folder: Path) -> Modules:
    """The stored factors by module. Raises InputError for tensors that are no LoRA factor, and for lone factors."""
    path = folder / _WEIGHTS
    if not path.is_file() and (other := sorted(folder.glob("adapter_model.[!s]*"))):
        raise InputError(
            f"{other[0]}: only {_WEIGHTS} is read; load the adapter with PEFT and call save_pretrained, or convert the "
            "file with safetensors.torch.save_file"
        )
    if not path.is_file():
        sharded = sorted(folder.glob("adapter_model-*-of-*.safetensors"))
        below = sorted(folder.glob(f"*/{_WEIGHTS}"))
        found = "it is in pieces; load it with PEFT and call save_pretrained" if sharded else (
            f"there is one in {below[0].parent}; name that folder" if below else "name the folder that has it"
        )  # fmt: skip
        raise InputError(f"{folder}: has no {_WEIGHTS}: {found}")
    modules: Modules = {}
    names: set[str | None] = set()
    for name, tensor in read_header(path).items():
        parsed = parse_adapter_tensor(name)
        if parsed is None:
            raise InputError(
                f"{path}: tensor {name!r} is no LoRA factor of a linear layer (expected "
                f"{PEFT_PREFIX}MODULE.lora_A.weight or lora_B); it would be dropped, so the adapter is not loaded"
            )
        module, half, adapter = parsed
        names.add(adapter)
        modules.setdefault(module, {})[half] = tensor
    if len(names) > 1:
        raise InputError(f"{path}: the tensors are of several adapters: {', '.join(sorted(map(str, names)))}; keep one")
    for module, halves in modules.items():
        if len(halves) < 2:
            raise InputError(f"{path}: {module} has lora_{next(iter(halves))} only; the file is damaged")
    if not modules:
        raise InputError(f"{path}: holds no tensors")
    return modules


def _lora_config(config: PeftConfig, modules: Modules) -> LoraConfig:
    found = {module.rpartition(".")[2] for module in modules}
    strange = sorted(found - set(PROJECTIONS))
    if strange:
        raise InputError(
            f"{config.where}: the adapter is on {', '.join(strange)}; only {', '.join(PROJECTIONS)} can be"
        )
    ranks = {config.rank_of(module) for module in modules}
    # LoraConfig has one rank and one alpha: those that give the scale of modules without a pattern of their own.
    rank = max(ranks)
    ratio = math.sqrt(rank / config.rank) if config.rslora else rank / config.rank
    return LoraConfig(
        rank=rank, alpha=config.alpha * ratio, rslora=config.rslora, dropout=config.dropout,
        targets=tuple(name for name in PROJECTIONS if name in found), layers=_layers(config, modules),
    )  # fmt: skip


def _layer_of(module: str) -> int:
    """The number of a module's layer, such as 3 of `model.layers.3.self_attn.q_proj`."""
    number = _LAYER.search(module)
    if number is None:
        raise InputError(f"module {module!r} is in no layer; an adapter is on the projections of the layers only")
    return int(number[1])


def _layers(config: PeftConfig, modules: Modules) -> tuple[int, ...] | None:
    """The layers that an adapter is on, or None where its settings name no layers and it is on all.

    What is stored decides, not `layers_to_transform`: PEFT adapts a module that `target_modules` names in full
    wherever it is, and layers that the model lacks are passed over.
    """
    found = sorted({_layer_of(module) for module in modules})
    # The settings of an adapter on all layers would be on one more, if the model had it.
    further = (_LAYER.sub(f"layers.{found[-1] + 1}.", module) for module in modules)
    if found == list(range(len(found))) and any(config.is_on(module) for module in further):
        return None
    return tuple(found)


def _check_modules(config: PeftConfig, modules: Modules, spec: ModelSpec, folder: Path) -> None:
    """Compare what the settings name with what is stored. Raises InputError naming the tensor."""
    path, known = folder / _WEIGHTS, adapter_modules(spec)
    wanted = {module for module in known if config.is_on(module)}
    listed = config.target_modules if isinstance(config.target_modules, tuple) else ()
    problems = [
        f"{CONFIG} names {name!r} in target_modules, which is no projection of this base"
        for name in listed
        if not any(module == name or module.endswith(f".{name}") for module in known)
    ]
    problems += [f"tensor of {module} is missing, but {CONFIG} names the module" for module in wanted - modules.keys()]
    problems += [f"{module} is no module of this base" for module in modules.keys() - known.keys()]
    unnamed = modules.keys() & known.keys() - wanted
    problems += [f"{module} is stored, but {CONFIG} does not name it" for module in unnamed]
    for module in sorted(modules.keys() & wanted):
        into, out = spec.projections[known[module][0]]
        rank = config.rank_of(module)
        for half, shape in (("A", (rank, into)), ("B", (out, rank))):
            stored = modules[module][half]
            if stored.shape != shape:
                problems.append(f"tensor {stored.name!r} has shape {list(stored.shape)}, expected {list(shape)}")
            elif not np.isfinite(stored.read()).all():
                problems.append(f"tensor {stored.name!r} holds NaN or infinite values")
    if problems:
        shown = "\n".join(f"{path}: {problem}" for problem in sorted(problems)[:5])
        raise InputError(f"{folder}: this adapter is of another base model or rank, or is damaged:\n{shown}")


def save_adapter(folder: Path, adapter: Adapter, config: LoraConfig, spec: ModelSpec, base: str) -> None:
    """Write a folder that `PeftModel.from_pretrained` and `load_adapter` read. `base` is recorded as its name."""
    folder.mkdir(parents=True, exist_ok=True)
    sources = adapter_sources(spec, config.targets, config.rank)
    layer_of = {module: layer for module, (_, layer) in adapter_modules(spec).items()}
    tensors = {
        name: tensor
        for name, tensor in hf_tensors(adapter.params, sources)
        if config.layers is None or layer_of[name.removeprefix(PEFT_PREFIX).partition(".lora_")[0]] in config.layers
    }
    write_safetensors(folder / _WEIGHTS, tensors)
    data = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "r": config.rank,
        "lora_alpha": int(config.alpha) if config.alpha.is_integer() else config.alpha,
        "lora_dropout": config.dropout,
        "use_rslora": config.rslora,
        **adapted_modules(spec, [name for name in PROJECTIONS if name in config.targets], config.layers),
        "bias": "none",
        "inference_mode": True,
    }
    (folder / CONFIG).write_text(json.dumps(data, indent=2) + "\n")
