"""The contestant transformers + peft: dynamic padding, gradient accumulation, AdamW, as HF's Trainer steps."""

from __future__ import annotations

import time

import cases
import torch
from contest import serve
from peft import LoraConfig, get_peft_model
from transformers import Qwen2Config, Qwen2ForCausalLM


class TorchPeft:
    """Holds the model; a measurement trains on from where the last one ended."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        keys = {key: value for key, value in cases.MODEL.items() if key not in ("architectures", "model_type")}
        base = Qwen2ForCausalLM(Qwen2Config(**keys)).float()
        config = LoraConfig(
            r=cases.LORA["rank"], lora_alpha=cases.LORA["alpha"], use_rslora=True, lora_dropout=0.0,
            target_modules=["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
            task_type="CAUSAL_LM",
        )  # fmt: skip
        self.model = get_peft_model(base, config).train()
        self.parameters = [p for p in self.model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(self.parameters, lr=1e-5, weight_decay=0.01)

    def measure(self, name: str, runs: int = 1) -> float:
        """Seconds for the case's steps."""
        case = cases.CASES[name]
        steps = cases.steps_of(case)
        begun = time.perf_counter()
        for step in steps:
            # transformers weights the loss by the targets of the whole step when it is told their number.
            targets = sum(int(example.target[1:].sum()) for example in step)
            for at in range(0, len(step), case.micro):
                rows = step[at : at + case.micro]
                width = max(len(row.tokens) for row in rows)
                tokens = torch.zeros((len(rows), width), dtype=torch.long)
                mask = torch.zeros((len(rows), width), dtype=torch.long)
                labels = torch.full((len(rows), width), -100)
                for i, row in enumerate(rows):
                    n = len(row.tokens)
                    tokens[i, :n] = torch.from_numpy(row.tokens)
                    mask[i, :n] = 1
                    labels[i, :n] = torch.where(torch.from_numpy(row.target), tokens[i, :n], -100)
                loss = self.model(input_ids=tokens, attention_mask=mask, labels=labels, num_items_in_batch=targets).loss
                loss.backward()
            torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
            self.optimizer.step()
            self.optimizer.zero_grad()
        return time.perf_counter() - begun


if __name__ == "__main__":
    contestant = TorchPeft()
    serve(contestant.measure)
