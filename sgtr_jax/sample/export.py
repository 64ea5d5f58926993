"""Models and adapters out of this project, in the formats other tools read."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import jax
import jax.numpy as jnp

from sgtr_jax.data.adapter_chat import brings_chat, check_same_chat
from sgtr_jax.data.tokenizer import load_tokenizer
from sgtr_jax.distributed.mesh import SAMPLING, make_mesh
from sgtr_jax.distributed.mesh_config import MeshConfig
from sgtr_jax.errors import InputError
from sgtr_jax.files import check_apart, check_new, new_folder, write_json
from sgtr_jax.lora.adapter import Adapter
from sgtr_jax.lora.config import PROJECTIONS, LoraConfig
from sgtr_jax.lora.transforms import merge
from sgtr_jax.models.families import text_only
from sgtr_jax.sample.folders import resolve_folder
from sgtr_jax.sample.model import load_model, read_spec, stored_dtype
from sgtr_jax.weights.converted import copy_model_files
from sgtr_jax.weights.low_rank import extract
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


def export_as_adapter(checkpoint: str, base: str, rank: int, out: Path, leave_out: bool) -> str:
    """Write the difference of a checkpoint from its base as a PEFT adapter of a rank, and the shares that it keeps.

    Returns a sentence for the user. Raises InputError for models of two architectures or with two chat forms, and for
    differences that are in no projection unless `leave_out`.
    """
    check_new(out)
    tuned, below = resolve_folder(checkpoint), resolve_folder(base)
    check_apart(out, [tuned, below])
    specs = read_spec(tuned), read_spec(below)
    if brings_chat(tuned):
        check_same_chat(tuned, load_tokenizer(below))
    found = extract(tuned, below, specs, rank, leave_out)
    config = LoraConfig(rank=rank, alpha=float(rank), rslora=False, targets=tuple(found.params))
    params = {name: {half: jnp.asarray(x) for half, x in pair.items()} for name, pair in found.params.items()}
    with new_folder(out) as temporary:
        save_adapter(temporary, Adapter(params, jnp.float32(1)), config, specs[1], base)
        made = {"checkpoint": checkpoint, "base": base, "rank": rank}
        write_json(temporary / "as_adapter.json", {**made, **found.to_json()})
    shares = ", ".join(f"{name} {share:.2%}" for name, share in found.by_projection.items())
    rest = f"; {len(found.left_out)} tensors that differ are left out (as_adapter.json)" if found.left_out else ""
    return f"PEFT adapter of rank {rank} on {base}; of the difference's norm it keeps {found.kept:.2%} ({shares}){rest}"


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
