"""`sgtr doctor`: what this machine has, what is wrong with it, and what to do about it."""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import platform
import shutil
import socket
import sys
from collections.abc import Callable
from pathlib import Path

from sgtr_jax.cli.parser import Commands, as_path
from sgtr_jax.errors import InputError

_PACKAGES = ("jax", "jaxlib", "libtpu", "flax", "optax", "orbax-checkpoint", "transformers", "grain", "inspect-ai")
_KEYS = ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "HF_TOKEN", "WANDB_API_KEY")
_COMPILER_VARIABLES = ("LIBTPU_INIT_ARGS", "XLA_FLAGS")
_SMALLEST_DISK_GB = 20

# What was found, and what to do if it is a problem.
Finding = tuple[str, str | None]


def add_to(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add(
        "doctor",
        "Check this machine: devices, versions, memory, disk, keys, hub, bucket.",
        [
            "sgtr doctor",
            "sgtr doctor --bucket gs://BUCKET    # also whether the bucket can be written to",
            "sgtr doctor --report runs/mine      # text for a bug report: also what failed there, and no secrets",
        ],
        run,
    )
    parser.add_argument(
        "--report", type=as_path, nargs="?", const=Path(), metavar="RUN",
        help="print it as text for a bug report, without keys and names of folders; with RUN what failed there, too",
    )  # fmt: skip
    parser.add_argument("--bucket", metavar="ADDRESS", help="gs://NAME to try writing to")


def run(args: argparse.Namespace) -> int:
    """Print a line for each check. Returns 1 if one found a problem."""
    from sgtr_jax.distributed.memory import reserve_gpu_memory

    reserve_gpu_memory()
    bucket: str | None = args.bucket
    checks: dict[str, Callable[[], Finding]] = {
        "python": _python, "packages": _packages, "jax and jaxlib": _matching, "devices": _devices,
        "product and sum on every device": _compute, "speed of a device": _speed, "attention": _attention,
        "compiler options": _options,
        "memory": _memory, "disk": _disk, "keys": _keys,
        "Hugging Face hub": _hub,
    }  # fmt: skip
    if bucket is not None:
        if not bucket.startswith("gs://"):
            raise InputError(f"--bucket {bucket}: expected gs://NAME")
        checks["bucket"] = lambda: _bucket(bucket)
    if args.report is not None:
        from sgtr_jax.cli.bug_report import bug_report

        bug_report({name: _checked(check) for name, check in checks.items()}, args.report)
        return 0
    problems = 0
    for name, check in checks.items():
        found, fix = _checked(check)
        problems += fix is not None
        print(f"{'ok      ' if fix is None else 'PROBLEM '} {name}: {found}")
        if fix is not None:
            print(f"          -> {fix}")
    print(f"{problems} problems" if problems != 1 else "1 problem")
    return 1 if problems else 0


def _checked(check: Callable[[], Finding]) -> Finding:
    try:
        return check()
    except Exception as error:  # noqa: BLE001 - a check that breaks is itself the finding
        return f"{type(error).__name__}: {error}", "this must work before anything else does"


def _python() -> Finding:
    old = sys.version_info < (3, 11)
    return f"{platform.python_version()} on {platform.system()}", "install Python 3.11 or newer" if old else None


def _packages() -> Finding:
    found = []
    for name in _PACKAGES:
        try:
            found.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            if name != "libtpu":
                return f"{name} is missing", "pip install sgtr-jax (in a checkout: pip install -c constraints.txt -e .)"
    return ", ".join(found), None


def _matching() -> Finding:
    jax, jaxlib = (importlib.metadata.version(name) for name in ("jax", "jaxlib"))
    fix = (
        None if jax == jaxlib else "pip install -U jax jaxlib (and jax[tpu], jax[cuda12] or jax[cuda13]) in one command"
    )
    return f"{jax} and {jaxlib}", fix


def _devices() -> Finding:
    import jax

    kinds = [device.device_kind for device in jax.devices()]
    found = f"{len(kinds)} x {kinds[0]} ({jax.default_backend()}), {jax.process_count()} process"
    on_tpu_vm = Path("/dev/accel0").exists() or Path("/dev/vfio").exists()
    if jax.default_backend() == "cpu" and on_tpu_vm and os.environ.get("JAX_PLATFORMS", "") != "cpu":
        return (
            found,
            "JAX does not see this machine's TPU chips: pip install 'jax[tpu]', and end who else uses them",
        )
    if jax.default_backend() == "cpu" and shutil.which("nvidia-smi"):
        return found, (
            "this machine has a GPU that JAX does not see: pip install 'sgtr-jax[cuda12]' "
            "(or cuda13, with a driver of version 580 or newer)"
        )
    if jax.default_backend() == "gpu":
        found += f", {jax.devices()[0].client.platform_version.strip().splitlines()[-1]}"
    return found, None


def _compute() -> Finding:
    import jax
    import jax.numpy as jnp
    import numpy as np
    from jax.sharding import Mesh, NamedSharding, PartitionSpec

    count = jax.device_count()
    mesh = Mesh(np.asarray(jax.devices()), ("all",))
    rows = jax.device_put(jnp.ones((count, 128, 128), jnp.float32), NamedSharding(mesh, PartitionSpec("all")))
    total = jax.jit(lambda x: jnp.sum(x @ x), out_shardings=NamedSharding(mesh, PartitionSpec()))(rows)
    wanted = float(count * 128**3)
    fix = None if float(total) == wanted else "a device computes wrongly: take it out of service"
    return f"{float(total):.0f}, expected {wanted:.0f}", fix


def _speed() -> Finding:
    import jax

    from sgtr_jax.distributed.rates import copy_bandwidth, matrix_rate

    if jax.default_backend() == "cpu":
        return "not measured on a CPU", None
    flops, bandwidth = matrix_rate(), copy_bandwidth()
    return f"{flops / 1e12:.0f} TFLOP/s in a large bfloat16 product, {bandwidth / 1e12:.2f} TB/s in a copy", None


def _attention() -> Finding:
    import jax

    from sgtr_jax.models.attention_choice import attention_for
    from sgtr_jax.models.flash import flash_problem

    kind = attention_for(jax.default_backend())
    slow = jax.default_backend() == "gpu" and kind != "flash"
    fix = f"flash attention cannot be used: {flash_problem()}; pip install 'sgtr-jax[cuda12]' or [cuda13]"
    return kind, fix if slow else None


def _options() -> Finding:
    import jax

    from sgtr_jax.distributed.compiler_options import compiler_options

    found = " ".join(f"{name}={value}" for name, value in compiler_options(jax.devices()).items())
    given = "".join(f"; {name}: {os.environ[name]}" for name in _COMPILER_VARIABLES if os.environ.get(name))
    return f"for training steps: {found or 'none'}{given}", None


def _memory() -> Finding:
    import jax

    from sgtr_jax.distributed.memory import reserve_gpu_memory

    stats = jax.local_devices()[0].memory_stats() or {}
    limit, used = stats.get("bytes_limit"), stats.get("bytes_in_use", 0)
    host = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES") / 1e9
    if not limit:
        return f"{host:.1f} GB free on the host", None
    fix = "another program holds the device's memory: end it" if used > 0.5 * limit else None
    found = f"{(limit - used) / 1e9:.1f} of {limit / 1e9:.1f} GB free on a device, {host:.1f} GB on the host"
    if jax.default_backend() == "gpu":
        found += (
            f" (JAX reserves {reserve_gpu_memory():.0%} of a card; XLA_PYTHON_CLIENT_MEM_FRACTION sets another share)"
        )
    return found, fix


def _disk() -> Finding:
    free = shutil.disk_usage(Path.cwd()).free / 1e9
    fix = f"models and runs want {_SMALLEST_DISK_GB} GB or more: make room, or work in another folder"
    return f"{free:.0f} GB free here", None if free > _SMALLEST_DISK_GB else fix


def _keys() -> Finding:
    # Never the keys themselves, not even a part.
    there = [name for name in _KEYS if os.environ.get(name)]
    absent = [name for name in _KEYS if name not in there]
    return f"there: {', '.join(there) or 'none'}; not there: {', '.join(absent) or 'none'}", None


def _hub() -> Finding:
    offline = "models must be local folders (or in the cache); HF_ENDPOINT may name a mirror"
    host = os.environ.get("HF_ENDPOINT", "https://huggingface.co").split("://")[-1].split("/")[0]
    try:
        with socket.create_connection((host.split(":")[0], int(host.partition(":")[2] or 443)), timeout=5):
            return f"{host} answers", None
    except OSError as error:
        return f"{host} does not answer ({error})", offline


def _bucket(address: str) -> Finding:
    from etils import epath

    probe = epath.Path(address) / ".sgtr-doctor"
    probe.write_text("x")
    probe.unlink()
    return f"{address} can be written", None
