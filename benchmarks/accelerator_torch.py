"""The peer of `accelerator.py`: torch, transformers and peft on the same device, each case in its best configuration.

Training: micro-batches of 4, 8 and 16 examples of like length, with and without checkpointing, the fused optimizer,
`sdpa` attention (FlashAttention where torch has it). Sampling: `generate` with a static cache, which compiles the step.
"""

from __future__ import annotations

import argparse
import gc
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import accelerator_cases as ac
import numpy as np
import torch
from cases import LORA
from peft import LoraConfig, get_peft_model
from transformers import AutoConfig, AutoModelForCausalLM

_PROJECTIONS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


class Peer:
    """A base of random weights in bfloat16."""

    def __init__(self, shape: ac.Shape) -> None:
        self.shape = shape
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        torch.manual_seed(0)
        keys = {key: value for key, value in shape.config.items() if key not in ("architectures", "model_type")}
        config = AutoConfig.for_model(shape.config["model_type"], **keys)
        with torch.device(self.device):
            self.base = AutoModelForCausalLM.from_config(config, attn_implementation="sdpa", dtype=torch.bfloat16)
        self.model: Any = None

    def sync(self) -> None:
        """Wait for the device."""
        if self.device == "cuda":
            torch.cuda.synchronize()

    def measure(self, case: str) -> tuple[float, str]:
        """The best rate in the case's unit, and how it was reached."""
        kind, _, rest = case.partition("_")
        if kind == "train":
            return self._train(rest)
        if case == "score":
            return self._score(self.shape.part(512), self.shape.part(300))
        return self._generate(*((64, 128, 1) if rest == "64" else (1, 512, 100)))

    def _train(self, kind: str) -> tuple[float, str]:
        if self.model is None:
            config = LoraConfig(
                r=LORA["rank"], lora_alpha=LORA["alpha"], use_rslora=True, lora_dropout=0.0, task_type="CAUSAL_LM",
                target_modules=_PROJECTIONS,
            )  # fmt: skip
            self.model = get_peft_model(self.base, config).train()
        data = [ac.examples(self.shape, kind, step) for step in range(3)]
        best = (0.0, "nothing fitted")
        for checkpointing in (False, True):
            for micro in (4, 8, 16):
                if micro > len(data[0]):
                    continue
                how = f"micro-batches of {micro}{', checkpointing' if checkpointing else ''}"
                try:
                    seconds = self._steps(data, micro, checkpointing)
                except torch.OutOfMemoryError:
                    gc.collect()
                    torch.cuda.empty_cache()
                    break  # larger ones do not fit either
                amount = sum(len(e.tokens) for e in data[-1]) if kind == "full" else len(data[-1])
                best = max(best, (amount / seconds, how))
            if best[0] and not checkpointing and micro == 16:
                break  # everything fits without
        return best

    def _steps(self, data: list[list[ac.Example]], micro: int, checkpointing: bool) -> float:
        """Seconds of the last step."""
        if checkpointing:
            self.model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
            self.model.enable_input_require_grads()
        else:
            self.model.gradient_checkpointing_disable()
        trained = [p for p in self.model.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(trained, lr=1e-5, weight_decay=0.01, fused=self.device == "cuda")
        for step in data:
            self.sync()
            begun = time.perf_counter()
            targets = sum(int(e.target[1:].sum()) for e in step)
            step = sorted(step, key=lambda e: len(e.tokens))
            for at in range(0, len(step), micro):
                ids, mask, labels = self._padded(step[at : at + micro])
                with torch.autocast(self.device, dtype=torch.bfloat16):
                    loss = self.model(
                        input_ids=ids, attention_mask=mask, labels=labels, num_items_in_batch=targets
                    ).loss
                loss.backward()
            torch.nn.utils.clip_grad_norm_(trained, 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            self.sync()
            seconds = time.perf_counter() - begun
        return seconds

    def _padded(self, rows: list[ac.Example]) -> list[torch.Tensor]:
        width = max(len(row.tokens) for row in rows)
        ids, mask = (np.zeros((len(rows), width), np.int64) for _ in range(2))
        labels = np.full((len(rows), width), -100)
        for i, row in enumerate(rows):
            n = len(row.tokens)
            ids[i, :n], mask[i, :n] = row.tokens, 1
            labels[i, :n] = np.where(row.target, row.tokens, -100)
        return [torch.from_numpy(x).to(self.device) for x in (ids, mask, labels)]

    @torch.no_grad()
    def _generate(self, count: int, length: int, samples: int) -> tuple[float, str]:
        count, samples = (self.shape.part(n) if n > 1 else 1 for n in (count, samples))
        length, new = self.shape.part(length), self.shape.part(128)
        ids = torch.tensor(ac.prompts(self.shape, count, length), device=self.device)
        self.base.eval()
        best = (0.0, "")
        for cache in ("dynamic", "static"):
            if cache == "static" and self.device == "cpu":
                continue  # compiling its step takes minutes there
            settings = {"cache_implementation": "static"} if cache == "static" else {}

            def run(settings: dict[str, Any] = settings) -> None:
                self.base.generate(
                    input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=new, min_new_tokens=new,
                    do_sample=samples > 1, top_k=0, num_return_sequences=samples, pad_token_id=0, **settings,
                )  # fmt: skip

            best = max(best, (count * samples * new / self._least(run), f"{cache} cache"))
        return best

    @torch.no_grad()
    def _score(self, count: int, length: int) -> tuple[float, str]:
        ids = torch.tensor(ac.prompts(self.shape, count, length), device=self.device)
        self.base.eval()
        best = (0.0, "")
        for rows in (32, 64, 128):

            def run(rows: int = rows) -> None:
                for at in range(0, count, rows):
                    torch.log_softmax(self.base(ids[at : at + rows], logits_to_keep=1).logits[:, -1].float(), -1)

            best = max(best, (count / self._least(run), f"{rows} prompts at once"))
        return best

    def _least(self, work: Callable[[], None]) -> float:
        seconds = []
        for _ in range(3):
            self.sync()
            begun = time.perf_counter()
            work()
            self.sync()
            seconds.append(time.perf_counter() - begun)
        return min(seconds[1:])


def main() -> int:
    """Measure; one JSON line a case."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("cases", nargs="*")
    parser.add_argument("--tiny", action="store_true")
    args = parser.parse_args()
    out, sys.stdout = sys.stdout, sys.stderr
    peer = Peer(ac.Shape.read(args.model, args.tiny))
    for name in args.cases:
        try:
            rate, how = peer.measure(name)
            line = {"case": name, "rate": rate, "how": how}
        except Exception as error:  # noqa: BLE001 - a case that fails leaves the others
            line = {"case": name, "error": f"{type(error).__name__}: {str(error).splitlines()[0][:200]}"}
        out.write(json.dumps(line) + "\n")
        out.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
