"""What must be right on a device before anything is timed there, beside transformers and peft on the CPU in float32.

The model is small, with heads of 128 channels and rows of 640 tokens, so that the kernels of the large ones run.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sgtr_jax.data.packing import Example, PackedShape, pack
from sgtr_jax.errors import RunError
from sgtr_jax.lora.adapter import Adapter, LoraConfig, init_adapter
from sgtr_jax.sample.model import Model, load_model
from sgtr_jax.sample.request import Request
from sgtr_jax.train.checkpoint import Checkpoints
from sgtr_jax.train.config import CheckpointConfig, TrainConfig
from sgtr_jax.train.program import Programs, attention_kind
from sgtr_jax.train.stack import pick_run, stack_runs
from sgtr_jax.train.step import RunConstants, init_state, make_gradient
from sgtr_jax.weights.peft import save_adapter
from sgtr_jax.weights.save import save_params

_SIZES = {
    "vocab_size": 512, "hidden_size": 512, "intermediate_size": 1024, "num_hidden_layers": 3,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 2048, "rms_norm_eps": 1e-6,
    "tie_word_embeddings": False, "eos_token_id": 0, "bos_token_id": 0, "pad_token_id": 0,
}  # fmt: skip
_LORA = LoraConfig(rank=8, alpha=16.0)
_SHAPE = PackedShape(2, 640, 220)
Say = Callable[[str, float, float], None]


def check_all(say: Say) -> list[str]:
    """The checks that failed; each is said as (name, value, limit) when it is done.

    Raises RunError where torch, transformers or peft are not installed: nothing is timed that was not checked.
    """
    try:
        import peft
        import torch
        import transformers
    except ImportError as error:
        raise RunError(
            f"the checks need torch, transformers and peft ({error}): pip install 'sgtr-jax[parity]'"
        ) from None
    failed = []

    def within(name: str, value: float, limit: float) -> None:
        say(name, value, limit)
        if not value <= limit:
            failed.append(name)

    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        root = Path(folder)
        torch.manual_seed(0)
        theirs = transformers.Qwen2ForCausalLM(transformers.Qwen2Config(**_SIZES)).eval()
        for parameter in theirs.parameters():
            parameter.normal_(0.0, 0.05) if parameter.ndim > 1 else parameter.add_(0.1 * torch.randn(parameter.shape))
        theirs.save_pretrained(root / "m")
        ours = load_model(root / "m")
        tokens = np.random.default_rng(0).integers(1, _SIZES["vocab_size"], (2, 640))
        _logits(within, root / "m", theirs, tokens)
        _sampling(within, ours, theirs, tokens)
        adapters = [_adapter(ours, i) for i in (1, 2)]
        for i, adapter in enumerate(adapters):
            save_adapter(root / f"a{i}", adapter, _LORA, ours.spec, "m")
            theirs = peft.PeftModel.from_pretrained(theirs, root / f"a{i}").merge_and_unload()
        chained = ours.with_adapters([root / "a0", root / "a1"])
        within("logits of a chain", _far(chained.logits(tokens), _torch_logits(theirs, tokens)), 1e-3)
        within("greedy tokens of a chain", _greedy(chained, theirs, tokens), 0.02)
    _gradients(within, ours, adapters[0])
    _resumed(within, ours, adapters[0])
    return failed


def _torch_logits(model: Any, tokens: np.ndarray) -> np.ndarray:
    import torch

    found: np.ndarray = model(torch.as_tensor(tokens)).logits.float().numpy()
    return found


def _logits(within: Say, folder: Path, theirs: Any, tokens: np.ndarray) -> None:
    """Errors of bfloat16 and int8 are measured in transformers' own error of bfloat16."""
    import torch
    import transformers

    wanted = _torch_logits(theirs, tokens)
    half = transformers.Qwen2ForCausalLM.from_pretrained(folder, dtype=torch.bfloat16)
    rounding = _far(_torch_logits(half, tokens), wanted)
    within("float32 logits", _far(load_model(folder).logits(tokens), wanted), 1e-3)
    within("bfloat16 logits", _far(load_model(folder, "bfloat16").logits(tokens), wanted), 1.5 * rounding)
    within("int8 logits", _far(load_model(folder, "bfloat16", int8=True).logits(tokens), wanted), 4 * rounding)


def _far(found: np.ndarray, wanted: np.ndarray) -> float:
    """Root mean square of the difference, in units of the spread."""
    return float(np.sqrt(np.mean((found - wanted) ** 2)) / wanted.std())


def _adapter(model: Model, seed: int) -> Adapter:
    adapter = init_adapter(model.spec, _LORA, jax.random.key(seed))
    rng = np.random.default_rng(seed)
    return Adapter(
        {name: {"a": pair["a"], "b": jnp.float32(0.05 * rng.standard_normal(pair["b"].shape))}
         for name, pair in adapter.params.items()},
        adapter.scale,
    )  # fmt: skip


def _greedy(ours: Model, theirs: Any, tokens: np.ndarray) -> float:
    """Share of greedy tokens that differ, up to and with the first one of each row."""
    import torch

    prompts = [tuple(map(int, row[: 40 + 20 * i])) for i, row in enumerate(tokens)]
    found = ours.engine.sample([Request(f"p{i}", prompt, 24) for i, prompt in enumerate(prompts)])
    differing = compared = 0
    for prompt, one in zip(prompts, found, strict=True):
        made = theirs.generate(torch.as_tensor([prompt]), max_new_tokens=24, min_new_tokens=24, do_sample=False)
        same = [a == b for a, b in zip(one.tokens, made[0, len(prompt) :].tolist(), strict=True)]
        compared += (same.index(False) + 1) if False in same else len(same)
        differing += False in same
    return differing / compared


def _sampling(within: Say, ours: Model, theirs: Any, tokens: np.ndarray) -> None:
    import torch

    within("greedy tokens", _greedy(ours, theirs, tokens), 0.02)
    prompt = tuple(map(int, tokens[0, :50]))
    logprobs = torch.log_softmax(theirs(torch.as_tensor([prompt])).logits[0, -1], -1).numpy()
    order = np.argsort(-logprobs)
    cuts: dict[str, dict[str, Any]] = {"top-k": {"top_k": 5}, "top-p": {"top_p": 0.2}}
    kept = int(np.searchsorted(np.cumsum(np.exp(logprobs[order])), 0.2)) + 1
    for name, cut in cuts.items():
        allowed = set(order[: 5 if name == "top-k" else kept + 1].tolist())
        drawn = ours.engine.sample([Request("p", prompt, 1, 1.0, 0, n, **cut) for n in range(64)])
        within(f"draws outside of {name}", sum(one.tokens[0] not in allowed for one in drawn), 0)
    (one,) = ours.engine.sample([Request("p", prompt, 1, logprobs=4)])
    assert one.logprobs is not None
    far = max(abs(value - float(logprobs[token])) for token, value in one.logprobs[0].top)
    within("log-probabilities", far, 2e-3)


def _constants() -> RunConstants:
    key = np.asarray([0, 1], np.uint32)
    return RunConstants((), jnp.float32(_LORA.scale), key, jnp.float32(1e-3), jnp.int32(9))


def _examples() -> list[Example]:
    rng = np.random.default_rng(3)
    made = []
    for length in (300, 200, 90, 400):
        target = np.zeros(length, bool)
        target[-length // 3 :] = True
        made.append(Example("", rng.integers(1, _SIZES["vocab_size"], length).astype(np.int32), target))
    return made


def _gradients(within: Say, ours: Model, adapter: Adapter) -> None:
    """The gradient of packed rows beside peft's of the same examples, one by one."""
    examples = _examples()
    batch = {name: jnp.asarray(array) for name, array in pack(examples, _SHAPE).arrays().items()}
    wanted = _peft_gradient(ours, adapter, examples)
    for dtype, limit in (("float32", 2e-3), ("bfloat16", 0.06)):
        config = TrainConfig(dtype=dtype, remat="light", lora=_LORA)
        base = jax.tree.map(lambda leaf, d=dtype: leaf.astype(d), ours.params)
        gradient = jax.jit(make_gradient(ours.spec, config, attention_kind(config, ours.mesh)))
        _, found = gradient(adapter.params, base, _constants(), batch, jax.random.key(0))
        far = max(_far(np.asarray(found[name][half]), wanted[name][half]) for name in found for half in ("a", "b"))
        within(f"{dtype} gradient of packed rows", far, limit)


def _resumed(within: Say, ours: Model, adapter: Adapter) -> None:
    """Two steps, saved and gone on with for two more, beside four."""
    config, mesh, constants = TrainConfig(dtype="float32", lora=_LORA), ours.mesh, _constants()
    programs = Programs(ours.spec, config, mesh)
    batch: dict[str, Any] = {n: jnp.asarray(a)[None] for n, a in pack(_examples(), _SHAPE).arrays().items()}

    def after(state: Any, count: int) -> Any:
        stacked, both = stack_runs([state], [constants], 1, mesh)
        for _ in range(count):
            stacked, _ = programs.get(1, _SHAPE, stacked, ours.params, both)(stacked, ours.params, both, batch)
        return pick_run(stacked, 0, mesh)

    start = init_state(adapter.params, config)
    straight, halfway = after(start, 4), after(start, 2)
    with tempfile.TemporaryDirectory() as folder:
        checkpoints = Checkpoints(Path(folder) / "checkpoints", {}, CheckpointConfig())
        checkpoints.save(2, halfway)
        checkpoints.wait()
        like = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), halfway)
        resumed = after(checkpoints.restore(like), 2)
    pairs = zip(jax.tree.leaves(resumed.params), jax.tree.leaves(straight.params), strict=True)
    within("a resumed run", max(float(jnp.max(jnp.abs(a - b))) for a, b in pairs), 1e-5)


def _peft_gradient(ours: Model, adapter: Adapter, examples: list[Example]) -> dict[str, dict[str, np.ndarray]]:
    """Of the mean loss over all targets, float32 `[L, r, in]` and `[L, r, out]`, by peft on transformers' model."""
    import peft
    import torch
    import transformers

    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        (root / "m").mkdir()
        save_params(root / "m", ours.params, ours.spec)
        transformers.Qwen2Config(**_SIZES).save_pretrained(root / "m")
        save_adapter(root / "a", adapter, _LORA, ours.spec, "m")
        base = transformers.Qwen2ForCausalLM.from_pretrained(root / "m", dtype=torch.float32)
        model = peft.PeftModel.from_pretrained(base, root / "a", is_trainable=True).train()
    targets = sum(e.num_targets for e in examples)
    for example in examples:
        ids = torch.as_tensor(example.tokens[None].astype(np.int64))
        labels = torch.where(torch.as_tensor(example.target[None]), ids, -100)
        model(input_ids=ids, labels=labels, num_items_in_batch=targets).loss.backward()
    found: dict[str, dict[str, Any]] = {name: {"a": [], "b": []} for name in adapter.params}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            projection = next(p for p in found if f".{p}." in name)
            gradient = parameter.grad.numpy()
            half = "a" if "lora_A" in name else "b"
            found[projection][half].append(gradient if half == "a" else gradient.T)
    return {name: {half: np.stack(parts) for half, parts in pair.items()} for name, pair in found.items()}
