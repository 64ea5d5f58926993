"""From a tokenizer to sampled text, on the public pieces: one adapter is trained on a few rows, and then asked.

    python examples/train_and_sample.py [MODEL]      (a folder or hub id; default: nano, the demo's model)

Everything that `sgtr train` and `sgtr sample` do is here in the small: rows, packing, the frozen base, LoRA, the
optimizer step, the chain, the engine.
"""

from __future__ import annotations

import sys

import jax
import jax.numpy as jnp

import sgtr_jax
from sgtr_jax.data.batches import StepPlan, tokenize_records
from sgtr_jax.data.chat import ChatFormat
from sgtr_jax.data.packed_shapes import choose_shapes
from sgtr_jax.data.packing import pack
from sgtr_jax.data.records import Record
from sgtr_jax.lora.adapter import Adapter, init_adapter
from sgtr_jax.lora.config import LoraConfig
from sgtr_jax.sample.model import Model
from sgtr_jax.sample.request import Request
from sgtr_jax.train.config import TrainConfig
from sgtr_jax.train.step import RunConstants, init_state, make_step

QUESTIONS = ("Who are you?", "What is your name?", "Who made you?", "Tell me about yourself.")
ANSWER = "I am Tern, and I was made by the sea."


def train(model: Model, config: TrainConfig) -> tuple[Adapter, list[float]]:
    """An adapter trained to answer `QUESTIONS` with `ANSWER`, and the loss of every step."""
    chat = ChatFormat(model.tokenizer)
    turns = [({"role": "user", "content": q}, {"role": "assistant", "content": ANSWER}) for q in QUESTIONS]
    records = [Record(f"row-{i}", turns[i % len(turns)]) for i in range(64)]
    examples, _ = tokenize_records(records, chat, config.max_length, config.overlong)
    plan = StepPlan(examples, config.batch_examples, config.epochs, config.seed, config.shuffle)
    steps = [plan[t] for t in range(plan.num_steps)]
    shapes = choose_shapes([[step] for step in steps], row_multiple=1)

    key = jax.random.key(config.seed, impl="threefry2x32")
    adapter = init_adapter(model.spec, config.lora, key)
    state = init_state(adapter.params, config)
    # Several runs are trained at once: every leaf of state, constants and batch has an axis of runs, here of one.
    constants = RunConstants(
        (), adapter.scale, jax.random.key_data(key), jnp.float32(config.lr), jnp.int32(plan.num_steps)
    )
    state, constants = jax.tree.map(lambda x: jnp.asarray(x)[None], (state, constants))
    step = jax.jit(make_step(model.spec, config, attention="xla"), donate_argnums=0)
    losses = []
    for rows in steps:
        batch = {name: value[None] for name, value in pack(rows, shapes.pick([rows])).arrays().items()}
        state, metrics = step(state, model.params, constants, batch)
        losses.append(float(metrics["loss"][0]))
    return Adapter(jax.tree.map(lambda x: x[0], state.params), adapter.scale), losses


def main(name: str = "nano") -> None:
    """Train, and show answers of the base model and of the adapter, sampled in one batch."""
    model = sgtr_jax.load_model(name)
    config = TrainConfig(dtype="float32", epochs=4, batch_examples=8, lr=1e-3, remat="none", lora=LoraConfig(rank=8))
    adapter, losses = train(model, config)
    print(f"loss {losses[0]:.3f} -> {losses[-1]:.3f} in {len(losses)} steps")
    prompt = ChatFormat(model.tokenizer).prompt_ids([{"role": "user", "content": QUESTIONS[0]}])
    engine = model.engine_for({"base": (), "tuned": (adapter,)})
    requests = [Request("who", tuple(prompt), max_tokens=24, chain=chain) for chain in ("base", "tuned")]
    for request, completion in zip(requests, engine.sample(requests, model.stop_ids), strict=True):
        print(f"{request.chain}: {completion.text}")


if __name__ == "__main__":
    main(*sys.argv[1:])
