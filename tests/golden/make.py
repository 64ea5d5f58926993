"""Write the golden files: tiny random models of all families and what `transformers` answers for them.

    make golden                                   # those that are here
    python tests/golden/make.py gemma3-linear     # another of `hf_models.CASES`

Needs torch. The test that reads them does not.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent / "support"))
import hf_models
import torch

HERE = Path(__file__).parent
SMALL = {"vocab_size": 64, "hidden_size": 24, "intermediate_size": 32, "num_hidden_layers": 2}


def main() -> None:
    for case in sys.argv[1:] or sorted(path.parent.name for path in HERE.glob("*/expected.npz")):
        folder = HERE / case
        shutil.rmtree(folder, ignore_errors=True)
        model = hf_models.make(case, folder, **SMALL)
        (folder / "generation_config.json").unlink(missing_ok=True)
        if case == "qwen2-gqa4":
            _as_version_4(folder / "config.json")
        rng = np.random.default_rng(0)
        tokens = rng.integers(0, SMALL["vocab_size"], (3, 17))
        mask = np.ones((3, 17), bool)
        mask[1, 9:] = False
        mask[2, 1:] = False
        with torch.no_grad():
            logits = model(torch.tensor(tokens), attention_mask=torch.tensor(mask.astype(int))).logits.numpy()
        expected = {"tokens": tokens.astype(np.int32), "mask": mask, "logits": logits.astype(np.float32)}
        for i, length in enumerate((3, 9, 17, 5)):
            prompt = rng.integers(3, SMALL["vocab_size"], length)
            with torch.no_grad():
                out = model.generate(
                    torch.tensor(prompt[None]), max_new_tokens=12, do_sample=False, eos_token_id=None, pad_token_id=1
                )
            expected[f"prompt{i}"] = prompt.astype(np.int32)
            expected[f"generated{i}"] = out[0, length:].numpy().astype(np.int32)
        np.savez_compressed(folder / "expected.npz", **expected)
        print(case, f"{sum(p.stat().st_size for p in folder.iterdir()) / 1000:.0f} kB")


def _as_version_4(path: Path) -> None:
    """Write the config as transformers 4 did: rope_theta at the top level."""
    config = json.loads(path.read_text())
    config["rope_theta"] = config.pop("rope_parameters")["rope_theta"]
    config["torch_dtype"] = config.pop("dtype")
    path.write_text(json.dumps(config, indent=2) + "\n")


if __name__ == "__main__":
    main()
