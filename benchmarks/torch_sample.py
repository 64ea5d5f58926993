"""The contestant transformers in sampling: `generate`, and forward passes in batches of like length."""

from __future__ import annotations

import time

import cases
import sample_cases
import torch
from contest import serve
from transformers import Qwen2Config, Qwen2ForCausalLM

_BATCH = 32


class Torch:
    """Holds the model."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        keys = {key: value for key, value in cases.MODEL.items() if key not in ("architectures", "model_type")}
        self.model = Qwen2ForCausalLM(Qwen2Config(**keys)).float().eval()

    @torch.no_grad()
    def measure(self, name: str) -> float:
        """Seconds for the case."""
        case = sample_cases.CASES[name]
        prompts = sample_cases.prompts_of(case)
        begun = time.perf_counter()
        if case.new:
            tokens, mask = _left_padded(prompts)
            self.model.generate(
                input_ids=tokens, attention_mask=mask, max_new_tokens=case.new, min_new_tokens=case.new,
                do_sample=case.samples > 1, top_k=0, num_return_sequences=case.samples, pad_token_id=0,
            )  # fmt: skip
        else:
            prompts = sorted(prompts, key=len)
            for at in range(0, len(prompts), _BATCH):
                tokens, mask = _left_padded(prompts[at : at + _BATCH])
                logits = self.model(input_ids=tokens, attention_mask=mask, logits_to_keep=1).logits
                torch.log_softmax(logits[:, -1], dim=-1)[:, [5, 6]]
        return time.perf_counter() - begun


def _left_padded(prompts: list[list[int]]) -> tuple[torch.Tensor, torch.Tensor]:
    width = max(map(len, prompts))
    tokens = torch.tensor([[0] * (width - len(p)) + p for p in prompts])
    mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts])
    return tokens, mask


if __name__ == "__main__":
    serve(Torch().measure)
