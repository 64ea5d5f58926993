"""One process of a job that loads a model: FOLDER MESH. Prints bytes of its share and of anonymous memory at the most.

Mapped pages of the files do not count: the system takes them back when it needs them.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from pathlib import Path


def anonymous() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith("RssAnon")).split()[1])


def main() -> None:
    from sgtr_jax.distributed.launch import start_jax

    start_jax()
    import jax
    import jax.numpy as jnp

    from sgtr_jax.distributed.collectives import barrier
    from sgtr_jax.distributed.mesh import TRAINING
    from sgtr_jax.distributed.mesh_config import MeshConfig
    from sgtr_jax.sample.model import load_model

    jnp.zeros(8).block_until_ready()
    barrier("all are here")
    before, peak, done = anonymous(), [0], threading.Event()

    def watch() -> None:
        while not done.is_set():
            peak[0] = max(peak[0], anonymous())
            time.sleep(0.002)

    watcher = threading.Thread(target=watch)
    watcher.start()
    started = time.monotonic()
    model = load_model(sys.argv[1], "bfloat16", MeshConfig(**json.loads(sys.argv[2])), TRAINING)
    jax.block_until_ready(model.params)
    seconds = time.monotonic() - started
    done.set()
    watcher.join()
    shards = [sum(shard.data.nbytes for shard in leaf.addressable_shards) for leaf in jax.tree.leaves(model.params)]
    found = {"share": sum(shards), "largest": max(shards), "anonymous": peak[0] - before, "seconds": round(seconds, 2)}
    print(json.dumps(found))


if __name__ == "__main__":
    main()
