"""A finetuning job and everything about it that can be checked before a weight is read."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from sgtr_jax.data.adapter_chat import brings_chat, check_same_chat
from sgtr_jax.data.batches import StepPlan, TokenizeReport, tokenize_records
from sgtr_jax.data.chat import ChatFormat
from sgtr_jax.data.doses import Dose, steps_for
from sgtr_jax.data.mix import Interleaved
from sgtr_jax.data.packing import Example
from sgtr_jax.data.records import Record
from sgtr_jax.data.tokenizer import Tokenizer
from sgtr_jax.errors import InputError
from sgtr_jax.files import check_apart, check_writable, read_json
from sgtr_jax.finetune.defences import check_layers, check_others, plan_of_others, steering
from sgtr_jax.finetune.projections import Projected, read_projected
from sgtr_jax.fingerprint import model_fingerprint
from sgtr_jax.json_types import JsonObject
from sgtr_jax.models.spec import ModelSpec
from sgtr_jax.sealed import differences
from sgtr_jax.train.checkpoint import Checkpoints
from sgtr_jax.train.config import Point, TrainConfig
from sgtr_jax.train.metrics import check_log
from sgtr_jax.weights.adapter_fingerprint import adapter_fingerprint
from sgtr_jax.weights.peft import check_trainable, read_adapter_config


@dataclass(frozen=True)
class InterleavedData:
    """Records of another data set mixed into a run; see `data.mix.Interleaved`."""

    records: Sequence[Record]
    fraction: float | None = None
    every: int | None = None


@dataclass(frozen=True)
class MatchedData:
    """Another data set, and how much a run is trained in comparison with it."""

    records: Sequence[Record]
    dose: Dose


@dataclass(frozen=True, eq=False)
class Finetune:
    """One finetuning run."""

    model: str
    chain: tuple[Path, ...]  # frozen PEFT adapters below the one being trained
    records: Sequence[Record]
    config: TrainConfig
    out: Path  # gets adapter/ (or model/ in full mode), metrics.jsonl, report.json and, meanwhile, checkpoints/
    label: str = "train"
    mixed_in: InterleavedData | None = None
    matched: MatchedData | None = None
    # Records that only a penalty reads, by its name, in the place of the training rows.
    others: Mapping[str, Sequence[Record]] = field(default_factory=dict)
    # A PEFT adapter that is frozen on top of the chain while this one is trained, and left out of it afterwards
    # (arXiv 2606.30252).
    inoculation_adapter: Path | None = None

    @property
    def frozen(self) -> tuple[Path, ...]:
        """The adapters that are frozen during training."""
        return self.chain if self.inoculation_adapter is None else (*self.chain, self.inoculation_adapter)


@dataclass(frozen=True, eq=False)
class FinetuneResult:
    """A job that has ended: its files are in `job.out`, or, if it failed, its last good state."""

    job: Finetune
    tokenized: TokenizeReport
    failure: str | None  # a sentence


@dataclass(frozen=True, eq=False)
class Prepared:
    """A job whose data are tokenised and whose settings are known to be possible."""

    job: Finetune
    config: TrainConfig
    plan: StepPlan
    others: Mapping[str, StepPlan]  # of `Finetune.others`
    tokenized: TokenizeReport
    mixed_in: TokenizeReport | None
    identity: JsonObject
    checkpoints: Checkpoints
    resume_from: int | None
    kept: dict[Point, int]  # steps after which the adapter is kept, by point of `measure_at`
    projected: Projected | None  # what is projected while it is trained


def resolve_lora(config: TrainConfig) -> TrainConfig:
    """Take rank, alpha, rsLoRA and targets from `lora.init` where they were not given.

    Raises InputError when a given value differs from the adapter's.
    """
    if config.lora.init is None or config.mode == "full":
        return config
    check_trainable(Path(config.lora.init))
    stored = read_adapter_config(Path(config.lora.init))
    for key in config.lora.model_fields_set - {"init", "dropout"}:
        given, found = getattr(config.lora, key), getattr(stored, key)
        if given != found:
            raise InputError(f"lora.{key}={given!r}, but the adapter in lora.init={config.lora.init} has {found!r}")
    dropout = config.lora.dropout if "dropout" in config.lora.model_fields_set else stored.dropout
    lora = stored.model_copy(update={"init": config.lora.init, "dropout": dropout})
    return config.model_copy(update={"lora": lora})


def prepare(job: Finetune, folder: Path, spec: ModelSpec, tokenizer: Tokenizer) -> Prepared:
    """Check and tokenise. `folder` and `spec` are the base model's. Raises InputError."""
    config = resolve_lora(job.config)
    check_log(config.log)
    if config.mode == "full" and job.chain:
        raise InputError("mode: full trains the base itself; it cannot be combined with --adapter")
    if config.merge is not None and not job.chain:
        raise InputError("merge: bfloat16 merges the adapters below into the base, but there is no --adapter")
    if job.inoculation_adapter is not None:
        try:
            config.check_inoculation_adapter()
        except ValueError as error:
            raise InputError(str(error)) from None
    check_layers(config, spec.num_layers)
    check_others(config, job.others)
    below = [*job.frozen, *([Path(config.lora.init)] if config.lora.init is not None else [])]
    for adapter in below:
        read_adapter_config(adapter)
    check_apart(job.out, [folder, *below])
    for adapter in below:
        if brings_chat(adapter):
            check_same_chat(adapter, tokenizer)
    check_apart(job.out, [folder, *below])
    chat = ChatFormat(tokenizer, config.system, config.template_kwargs)
    examples, report = tokenize_records(
        job.records, chat, config.max_length, config.overlong, config.inoculation, spec.max_positions
    )
    _check_tokens(examples, spec.vocab_size, tokenizer)
    mixed, interleaved = None, None
    if job.mixed_in is not None:
        others, mixed = tokenize_records(
            job.mixed_in.records, chat, config.max_length, config.overlong, positions=spec.max_positions
        )
        _check_tokens(others, spec.vocab_size, tokenizer)
        interleaved = Interleaved(others, job.mixed_in.fraction, job.mixed_in.every)
    plan = StepPlan(
        examples, config.batch_examples, config.epochs, config.seed, config.shuffle, config.max_steps, interleaved
    )
    if job.matched is not None:
        config, plan = _matched(job.matched, config, plan, chat, spec)
    if interleaved is not None and plan.rows_per_epoch == len(examples):
        raise InputError(f"interleave: of {len(examples)} rows none is left for the other set; raise the fraction")
    plans: dict[str, StepPlan] = {}
    for name, records in job.others.items():
        rows, _ = tokenize_records(records, chat, config.max_length, config.overlong, positions=spec.max_positions)
        _check_tokens(rows, spec.vocab_size, tokenizer)
        plans[name] = plan_of_others(rows, plan)
    steered = steering(config, spec)
    projected = read_projected(config, spec, chat, job.inoculation_adapter is not None)
    check_writable(job.out)
    identity: JsonObject = {
        "config": config.identity(),
        "model": model_fingerprint(folder)[:16],
        "chain": [adapter_fingerprint(path) for path in job.chain],
        "init": None if config.lora.init is None else adapter_fingerprint(Path(config.lora.init)),
        "data": _digest_examples(examples),
        "interleaved": None if interleaved is None else {
            "data": _digest_examples(interleaved.examples),
            "fraction": interleaved.fraction,
            "every": interleaved.every,
        },
    }  # fmt: skip
    identity |= {f"{name}_data": _digest_examples(other.examples) for name, other in plans.items()}
    if job.inoculation_adapter is not None:
        identity["inoculation_adapter"] = adapter_fingerprint(job.inoculation_adapter)
    if steered is not None:
        identity["steering"] = hashlib.sha256(steered.tobytes()).hexdigest()[:16]
    checkpoints = Checkpoints(job.out / "checkpoints", identity, config.checkpoint)
    resume_from = checkpoints.check()
    if resume_from is None:
        _check_result(job.out, identity)
    kept = _kept(job.out, config, plan.num_steps, resume_from or 0)
    return Prepared(job, config, plan, plans, report, mixed, identity, checkpoints, resume_from, kept, projected)


def _kept(out: Path, config: TrainConfig, steps: int, taken: int) -> dict[Point, int]:
    """The steps of `measure_at`. Raises InputError for one that is past and was not kept, or that never comes."""
    try:
        kept = config.kept_steps(steps)
    except ValueError as error:
        raise InputError(str(error)) from None
    if kept and config.mode == "full":
        raise InputError("measure_at keeps adapters, and mode: full trains none")
    lost = [step for step in kept.values() if step <= taken and not (out / "at" / str(step)).is_dir()]
    if lost:
        raise InputError(
            f"{out}: is saved at step {taken}, and the adapter of step {lost[0]} was not kept; give the "
            "measure_at of before, or delete the folder to start anew"
        )
    return kept


def _matched(
    matched: MatchedData, config: TrainConfig, plan: StepPlan, chat: ChatFormat, spec: ModelSpec
) -> tuple[TrainConfig, StepPlan]:
    """The config and the plan with as many steps, and epochs enough for them, as the other set's dose asks for."""
    other = None
    if matched.dose.by == "tokens":
        other, _ = tokenize_records(
            matched.records, chat, config.max_length, config.overlong, positions=spec.max_positions
        )
    steps = steps_for(matched.dose, plan, len(matched.records), other)
    epochs = max(config.epochs, -(-steps // plan.steps_per_epoch))
    changed = config.model_copy(update={"max_steps": steps, "epochs": epochs})
    return changed, replace(plan, max_steps=steps, epochs=epochs)


def _check_result(out: Path, identity: JsonObject) -> None:
    """Raise InputError if `out` holds the result of another run: it would lie beside this one's metrics for hours."""
    found = [out / name for name in ("adapter", "model") if (out / name).exists()]
    if not found:
        return
    advice = "Give another --out, or remove the folder"
    try:
        before = read_json(out / "report.json").get("identity")
    except InputError:
        before = None
    if before is None:
        raise InputError(f"{found[0]}: exists, and no report.json says what was trained there. {advice}")
    if differing := differences(before, identity):
        raise InputError(f"{found[0]}: is of another run: {'; '.join(differing)}. {advice}")


def _check_tokens(examples: Sequence[Example], vocab_size: int, tokenizer: Tokenizer) -> None:
    """Raise InputError naming the row and the token that the embedding has no row for."""
    for example in examples:
        if int(example.tokens.max()) >= vocab_size:
            token = int(example.tokens.max())
            raise InputError(
                f"{example.id}: holds token {token} ({tokenizer.convert_ids_to_tokens(token)!r}), but the model's "
                f"embedding has {vocab_size} rows: the tokenizer got tokens that the model did not. Resize the model, "
                "or leave the tokens out"
            )


def data_report(prepared: Prepared) -> JsonObject:
    """What became of the records, for report.json."""
    report: JsonObject = {**asdict(prepared.tokenized), "examples_trained": prepared.plan.num_examples}
    if prepared.mixed_in is not None:
        extra = prepared.plan.rows_per_epoch - len(prepared.plan.examples)
        report["interleaved"] = {**asdict(prepared.mixed_in), "rows_per_epoch": extra}
    return report


def _digest_examples(examples: Sequence[Example]) -> str:
    digest = hashlib.sha256()
    for example in examples:
        digest.update(example.tokens.tobytes() + b"|" + example.target.tobytes() + b"\n")
    return digest.hexdigest()[:16]
