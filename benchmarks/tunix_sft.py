"""The contestant Tunix: its own trainer's jitted step, rows padded to the set's longest example."""

from __future__ import annotations

import time
from typing import Any

import cases
import jax
import jax.numpy as jnp
import numpy as np
import optax
import qwix
from contest import serve
from flax import nnx
from tunix.models.qwen2 import model as qwen2
from tunix.sft import peft_trainer
from tunix.sft import utils as sft

# Longest example of each case: a jitted step has one width.
_WIDTHS = {"full_rows": 512, "short_examples": 96, "long_sgtr": 1536}
# Rows of one pass: its float32 logits of 8 rows of 1,536 tokens, several times over, do not fit into 24 GiB.
_ROWS = {"full_rows": 4, "short_examples": 16, "long_sgtr": 2}


class Tunix:
    """Holds the model; a measurement trains on from where the last one ended."""

    def __init__(self) -> None:
        m = cases.MODEL
        config = qwen2.ModelConfig(
            num_layers=m["num_hidden_layers"], vocab_size=m["vocab_size"], embed_dim=m["hidden_size"],
            hidden_dim=m["intermediate_size"], num_heads=m["num_attention_heads"],
            head_dim=m["hidden_size"] // m["num_attention_heads"], num_kv_heads=m["num_key_value_heads"],
            rope_theta=int(m["rope_theta"]), norm_eps=m["rms_norm_eps"],
        )  # fmt: skip
        self.mesh = jax.make_mesh((1, 1), ("fsdp", "tp"), axis_types=(jax.sharding.AxisType.Auto,) * 2)
        with jax.set_mesh(self.mesh):
            base = qwen2.Qwen2(config, rngs=nnx.Rngs(0))
            provider = qwix.LoraProvider(
                module_path=".*(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)",
                rank=cases.LORA["rank"], alpha=cases.LORA["alpha"],
            )  # fmt: skip
            model = qwix.apply_lora_to_model(base, provider, **base.get_model_input(), rngs=nnx.Rngs(0))
            training = peft_trainer.TrainingConfig(eval_every_n_steps=10**9)
            optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(1e-5, weight_decay=0.01))
            self.trainer = peft_trainer.PeftTrainer(model, optimizer, training)
            self.trainer.with_gen_model_input_fn(_inputs)
            self.step = self.trainer.jit_train_and_eval_step()[0]

    def measure(self, name: str, runs: int = 1) -> float:
        """Seconds for the case's steps; the first call of a case compiles."""
        steps = cases.steps_of(cases.CASES[name])
        begun = time.perf_counter()
        with jax.set_mesh(self.mesh):
            for step in steps:
                for at in range(0, len(step), _ROWS[name]):
                    loss = self.step(_batch(step[at : at + _ROWS[name]], _WIDTHS[name]))[0]
            jax.block_until_ready(loss)
        return time.perf_counter() - begun


def _batch(step: list[cases.Example], width: int) -> dict[str, np.ndarray]:
    shape = (len(step), width)
    tokens, real, target = np.zeros(shape, np.int32), np.zeros(shape, bool), np.zeros(shape, bool)
    for i, example in enumerate(step):
        n = len(example.tokens)
        tokens[i, :n], real[i, :n], target[i, :n] = example.tokens, True, example.target
    return {"tokens": tokens, "real": real, "target": target}


def _inputs(batch: dict[str, Any]) -> dict[str, Any]:
    """Tunix's loss reads one mask for the loss; attention sees all real tokens."""
    return {
        "input_tokens": jnp.asarray(batch["tokens"]),
        "input_mask": batch["target"],
        "positions": sft.build_positions_from_mask(batch["real"]),
        "attention_mask": sft.make_causal_attn_mask(batch["real"]),
    }


if __name__ == "__main__":
    serve(Tunix().measure)
