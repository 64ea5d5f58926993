"""The contestant Tunix in sampling: its sampler, and its jitted forward pass in batches of like length."""

from __future__ import annotations

import time

import cases
import jax
import jax.numpy as jnp
import numpy as np
import sample_cases
from contest import serve
from flax import nnx
from tunix.generate import sampler as tunix_sampler
from tunix.models.qwen2 import model as qwen2
from tunix.sft import utils as sft

_BATCH = 32


class Numbers:
    """A tokenizer whose text is the ids in decimal, which Tunix's sampler asks for."""

    def encode(self, text: str, **_: object) -> list[int]:
        return [int(word) for word in text.split()]

    def decode(self, ids: object, **_: object) -> str:
        return " ".join(map(str, np.asarray(ids).tolist()))

    def bos_id(self) -> int:
        return 0

    def eos_id(self) -> int:
        return 31999

    def pad_id(self) -> int:
        return 0


class Tunix:
    """Holds the model and a sampler for each cache size."""

    def __init__(self) -> None:
        m = cases.MODEL
        self.config = qwen2.ModelConfig(
            num_layers=m["num_hidden_layers"], vocab_size=m["vocab_size"], embed_dim=m["hidden_size"],
            hidden_dim=m["intermediate_size"], num_heads=m["num_attention_heads"],
            head_dim=m["hidden_size"] // m["num_attention_heads"], num_kv_heads=m["num_key_value_heads"],
            rope_theta=int(m["rope_theta"]), norm_eps=m["rms_norm_eps"],
        )  # fmt: skip
        self.model = qwen2.Qwen2(self.config, rngs=nnx.Rngs(0))
        self.forward = nnx.jit(_next_token)
        self.samplers: dict[int, tunix_sampler.Sampler] = {}

    def measure(self, name: str) -> float:
        """Seconds for the case; the first call of a case compiles."""
        case = sample_cases.CASES[name]
        prompts = sample_cases.prompts_of(case) * case.samples
        begun = time.perf_counter()
        if case.new:
            width = 1 << (max(map(len, prompts)) - 1).bit_length()
            size = width + case.new + 1
            if size not in self.samplers:
                cache = tunix_sampler.CacheConfig(
                    size, self.config.num_layers, self.config.num_kv_heads, self.config.head_dim
                )
                self.samplers[size] = tunix_sampler.Sampler(self.model, Numbers(), cache)
            draw = {"temperature": 1.0, "top_p": 1.0} if case.samples > 1 else {}
            texts = [" ".join(map(str, prompt)) for prompt in prompts]
            self.samplers[size](texts, max_generation_steps=case.new, max_prompt_length=width, eos_tokens=[-1], seed=0,
                                **draw)  # fmt: skip
        else:
            prompts = sorted(prompts, key=len)
            for at in range(0, len(prompts), _BATCH):
                rows = prompts[at : at + _BATCH]
                tokens, real = np.zeros((_BATCH, 352), np.int32), np.zeros((_BATCH, 352), bool)
                for i, row in enumerate(rows):
                    tokens[i, : len(row)], real[i, : len(row)] = row, True
                real[len(rows) :, 0] = True
                jax.block_until_ready(self.forward(self.model, tokens, real))
        return time.perf_counter() - begun


def _next_token(model: qwen2.Qwen2, tokens: jax.Array, real: jax.Array) -> jax.Array:
    positions, mask = sft.build_positions_from_mask(real), sft.make_causal_attn_mask(real)
    logits, _ = model(tokens, positions, None, mask)
    last = jnp.sum(real, axis=1) - 1
    row = jnp.take_along_axis(logits, last[:, None, None], axis=1)[:, 0]
    return jax.nn.log_softmax(row)[:, jnp.asarray([5, 6])]


if __name__ == "__main__":
    serve(Tunix().measure)
