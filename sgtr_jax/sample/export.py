"""Models and adapters out of this project, in the formats other tools read."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import jax
import jax.numpy as jnp

from sgtr_jax.distributed.mesh import SAMPLING, make_mesh
from sgtr_jax.distributed.mesh_config import MeshConfig
from sgtr_jax.errors import InputError
from sgtr_jax.files import check_apart, check_new, new_folder
from sgtr_jax.lora.adapter import Adapter
from sgtr_jax.lora.config import PROJECTIONS, LoraConfig
from sgtr_jax.lora.transforms import merge
from sgtr_jax.models.families import text_only
from sgtr_jax.sample.folders import resolve_folder
from sgtr_jax.sample.model import load_model, read_spec, stored_dtype
from sgtr_jax.weights.converted import copy_model_files
from sgtr_jax.weights.peft import load_adapter, read_adapter_config, save_adapter
from sgtr_jax.weights.save import save_params

_ADAPTER_FILES = {"README.md", "adapter_config.json", "adapter_model.safetensors"}


def _is_exported_adapter(out: Path) -> bool:
    """Whether a folder holds what an export of an adapter wrote, and nothing else. PEFT's own have these files, too."""
    if not out.is_dir() or {path.name for path in out.iterdir()} != _ADAPTER_FILES:
        return False
    return "Made with sgtr-jax" in (out / "README.md").read_text(encoding="utf-8", errors="replace")


def export(model: str, adapters: Sequence[Path], out: Path, merged: bool, dtype: str | None = None) -> str:
    """Write `out`: the base as Hugging Face weights, the base with the chain merged in, or the chain as PEFT.

    Several adapters without `merged` become one PEFT adapter of their summed ranks, which acts as the chain.
    Returns a sentence for the user. Raises InputError for adapters of another base.
    """
    if merged and not adapters:
        raise InputError("--merge needs at least one --adapter")
    if not _is_exported_adapter(out):  # the same command may be given again, after a question, say
        check_new(out)
    configs = [read_adapter_config(folder) for folder in adapters]
    folder = resolve_folder(model)
    check_apart(out, [folder, *adapters])
    spec = read_spec(folder)
    if not adapters or merged:
        dtype = dtype or stored_dtype(folder)
        loaded = load_model(model, dtype).with_adapters(adapters)
        params, lost = merge(loaded.params, loaded.chain)
        with new_folder(out) as temporary:
            save_params(temporary, params, text_only(spec))
            copy_model_files(folder, temporary, text_only(spec))
            _record_dtype(temporary, dtype)
        if not merged:
            return "Hugging Face format"
        share = ", ".join(f"{name} {value:.2%}" for name, value in lost.items())
        return f"base and adapters merged, Hugging Face format; of the update's norm rounding to {dtype} lost {share}"
    mesh = make_mesh(MeshConfig(), jax.devices()[:1])
    chain = [load_adapter(path, spec, mesh, SAMPLING)[0] for path in adapters]
    one, config = chain[0], configs[0]
    if len(chain) > 1:
        one, config = _as_one(chain, configs)
    with new_folder(out) as temporary:
        save_adapter(temporary, one, config, spec, model)
    return f"PEFT adapter of rank {config.rank}"


def _as_one(chain: Sequence[Adapter], configs: Sequence[LoraConfig]) -> tuple[Adapter, LoraConfig]:
    """The chain as one adapter of scale 1. Where a link does not touch a projection its ranks are zeros."""
    rank = sum(config.rank for config in configs)
    targets = tuple(name for name in PROJECTIONS if any(name in config.targets for config in configs))
    params: dict[str, dict[str, jax.Array]] = {}
    for name in targets:
        like = next(link.params[name] for link in chain if name in link.params)
        parts_a, parts_b = [], []
        for link, config in zip(chain, configs, strict=True):
            if name in link.params:
                parts_a.append(link.params[name]["a"])
                parts_b.append(link.params[name]["b"] * link.scale)
            else:
                layers, _, into = like["a"].shape
                parts_a.append(jnp.zeros((layers, config.rank, into)))
                parts_b.append(jnp.zeros((layers, config.rank, like["b"].shape[2])))
        params[name] = {"a": jnp.concatenate(parts_a, axis=1), "b": jnp.concatenate(parts_b, axis=1)}
    config = LoraConfig(rank=rank, alpha=float(rank), rslora=False, targets=targets)
    return Adapter(params, jnp.float32(1.0)), config


def _record_dtype(folder: Path, dtype: str) -> None:
    """Make config.json say what the shards hold, under the key the file already uses."""
    path = folder / "config.json"
    data = json.loads(path.read_text(encoding="utf-8"))
    data["dtype" if "dtype" in data else "torch_dtype"] = dtype
    path.write_text(json.dumps(data, indent=2) + "\n")
