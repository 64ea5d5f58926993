"""Loading a sharded checkpoint on several processes, and starting a program a second time."""

from __future__ import annotations

import json
from pathlib import Path

import processes
import pytest
from runs import FAST
from tiny import QWEN, make_model, write_records

from sgtr_jax.data.world.corpus import preferences

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("count", [1, 4])
def test_each_process_holds_its_share_and_little_more(tmp_path: Path, count: int) -> None:
    """A 32B checkpoint's names and kinds of shapes at half a gigabyte, in several files."""
    import ml_dtypes
    from tiny import random_params

    from sgtr_jax.models.families import spec_from_config
    from sgtr_jax.weights.save import save_params

    config = {
        **QWEN, "vocab_size": 32000, "hidden_size": 1024, "intermediate_size": 5632, "num_hidden_layers": 12,
        "num_attention_heads": 8, "num_key_value_heads": 8,
    }  # fmt: skip
    spec = spec_from_config(config, "wide")
    (tmp_path / "config.json").write_text(json.dumps(config))
    save_params(tmp_path, random_params(spec, dtype=ml_dtypes.bfloat16), spec, max_shard_bytes=100_000_000)
    assert len(list(tmp_path.glob("*.safetensors"))) >= 4
    script = str(Path(__file__).parent / "support" / "load_and_measure.py")
    ended = processes.finish(processes.start([script, str(tmp_path), json.dumps({"fsdp": count})], count))
    whole = sum(path.stat().st_size for path in tmp_path.glob("*.safetensors"))
    for code, out, error in ended:
        assert code == 0, error
        found = json.loads(out.splitlines()[-1])
        print(found)
        assert found["share"] < 1.1 * whole / count
        assert found["anonymous"] <= 1.25 * found["share"] + found["largest"], found


def test_a_second_start_compiles_nothing(tmp_path: Path) -> None:
    make_model(tmp_path / "m")
    data = write_records(tmp_path / "d.jsonl", preferences(16, 0, False))
    argv = ["train", "--model", str(tmp_path / "m"), "--data", str(data), *FAST]
    cache = tmp_path / "cache"
    settings = {"JAX_COMPILATION_CACHE_DIR": str(cache), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}

    def start(out: str) -> set[str]:
        ((code, _, error),) = processes.finish(processes.start([*argv, "--out", str(tmp_path / out)], 1, **settings))
        assert code == 0, error
        return {path.name for path in cache.iterdir() if not path.name.endswith("-atime")}

    first = start("a")
    assert any("step" in name for name in first)
    assert start("b") == first
