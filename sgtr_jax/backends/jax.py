"""Finetuning on this machine's devices: records and a chain in, a PEFT adapter out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from sgtr_jax.data.batches import StepPlan, TokenizeReport, tokenize_records
from sgtr_jax.data.chat import ChatFormat
from sgtr_jax.data.records import Record
from sgtr_jax.errors import InputError, RunError
from sgtr_jax.files import check_writable, new_folder, write_json
from sgtr_jax.lora import LoraConfig, init_adapter
from sgtr_jax.mesh import TRAINING, make_mesh
from sgtr_jax.model import Model, load_model, read_spec, resolve_folder
from sgtr_jax.models.layers import Adapter
from sgtr_jax.models.spec import ModelSpec
from sgtr_jax.tokenizer import load_tokenizer
from sgtr_jax.train.config import TrainConfig
from sgtr_jax.train.loop import NonFiniteLoss, train
from sgtr_jax.train.step import Frozen
from sgtr_jax.weights.converted import copy_model_files
from sgtr_jax.weights.peft import load_adapter, read_adapter_config, save_adapter
from sgtr_jax.weights.save import save_params


@dataclass(frozen=True)
class Finetune:
    """One finetuning run, described by things that can be checked before a weight is read."""

    model: str
    chain: tuple[Path, ...]  # frozen PEFT adapters below the one being trained
    records: Sequence[Record]
    config: TrainConfig
    out: Path  # gets adapter/ (or model/ in full mode), metrics.jsonl and report.json
    label: str = "train"


def settle_lora(config: TrainConfig) -> TrainConfig:
    """Take rank, alpha, rsLoRA and targets from `lora.init` where they were not given.

    Raises InputError when a given value differs from the adapter's.
    """
    if config.lora.init is None or config.mode == "full":
        return config
    stored = read_adapter_config(Path(config.lora.init))
    for key in config.lora.model_fields_set - {"init", "dropout"}:
        given, found = getattr(config.lora, key), getattr(stored, key)
        if given != found:
            raise InputError(f"lora.{key}={given!r}, but the adapter in lora.init={config.lora.init} has {found!r}")
    dropout = config.lora.dropout if "dropout" in config.lora.model_fields_set else stored.dropout
    lora = stored.model_copy(update={"init": config.lora.init, "dropout": dropout})
    return config.model_copy(update={"lora": lora})


def finetune(job: Finetune, base: Model | None = None) -> TokenizeReport:
    """Run one finetuning and write its results under `job.out`.

    `base` is reused if given (the untouched model, in the training layout). Raises InputError for bad input,
    before any weight is read, and RunError when the loss stops being finite; the last good state is then under
    `out/last_good`.
    """
    config = settle_lora(job.config)
    if config.mode == "full" and job.chain:
        raise InputError("mode: full trains the base itself; it cannot be combined with --adapter")
    folder = resolve_folder(job.model)
    spec = read_spec(folder)
    if config.max_length > spec.max_positions:
        config = config.model_copy(update={"max_length": spec.max_positions})
    for adapter in job.chain:
        read_adapter_config(adapter)
    tokenizer = base.tokenizer if base is not None else load_tokenizer(folder)
    chat = ChatFormat(tokenizer, config.system, config.template_kwargs)
    examples, report = tokenize_records(job.records, chat, config.max_length, config.overlong)
    check_writable(job.out)
    if base is None:
        mesh = make_mesh(config.mesh, None if config.mesh.fsdp else jax.devices()[:1])
        base = (
            load_model(job.model, config.dtype, config.mesh, TRAINING)
            if mesh.size > 1
            else load_model(job.model, config.dtype)
        )
    mesh = base.mesh
    data = mesh.shape["replica"] * mesh.shape["fsdp"]
    plan = StepPlan(
        examples, config.batch_examples, config.epochs, config.seed, config.shuffle, data * config.accumulate
    )
    params, frozen = _start(base, spec, mesh, job.chain, config)
    metrics = job.out / "metrics.jsonl"
    try:
        result = train(spec, mesh, frozen, params, plan, config, metrics, job.label)
    except NonFiniteLoss as error:
        _save(job.out / "last_good", error.last_good, config, spec, job.model, folder)
        raise RunError(
            f"{job.label}: {error}. The state before that step is in {job.out / 'last_good'}; "
            "a lower lr or max_grad_norm, or dtype=float32, usually helps"
        ) from None
    except OSError as error:
        raise RunError(f"{metrics}: could not be written: {error.strerror or error}") from error
    name = "model" if config.mode == "full" else "adapter"
    _save(job.out / name, result.params, config, spec, job.model, folder)
    shapes = plan.shapes
    write_json(
        job.out / "report.json",
        {
            **asdict(report),
            "steps": plan.num_steps,
            "row_length": shapes.row_length,
            "row_counts": shapes.row_counts,
            "config": config.model_dump(mode="json"),
        },
    )
    return report


def _start(base: Model, spec: ModelSpec, mesh: Mesh, chain: Sequence[Path], config: TrainConfig) -> tuple[Any, Frozen]:
    """Parameters to train, and what stays as it is."""
    key = jax.random.key(config.seed)
    if config.mode == "full":
        # The step donates its state; the base must outlive it.
        return jax.tree.map(jnp.copy, base.params), Frozen(None, (), jnp.float32(1.0), key)
    below = tuple(load_adapter(folder, spec, mesh, TRAINING)[0] for folder in chain)
    if config.lora.init is not None:
        adapter, _ = load_adapter(Path(config.lora.init), spec, mesh, TRAINING)
    else:
        # A key of its own: the run's key draws dropout masks.
        adapter = init_adapter(spec, config.lora, jax.random.fold_in(key, 2**31 - 1))
    return adapter.params, Frozen(base.params, below, adapter.scale, key)


def _save(target: Path, params: Any, config: TrainConfig, spec: ModelSpec, base: str, folder: Path) -> None:
    with new_folder(target) as temporary:
        if config.mode == "full":
            save_params(temporary, params, spec)
            copy_model_files(folder, temporary)
        else:
            lora = config.lora.model_copy(update={"init": None})
            save_adapter(temporary, Adapter(params, jnp.float32(lora.scale)), lora, spec, base)


__all__ = ["Finetune", "LoraConfig", "finetune", "settle_lora"]
