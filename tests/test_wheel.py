"""What a wheel holds, installed in an environment of its own and used in an empty folder, far from any checkout."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(out), str(ROOT)]
    subprocess.run(pip, check=True, timeout=300)
    (made,) = out.glob("*.whl")
    return made


@pytest.fixture(scope="module")
def sgtr(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The command, installed from the wheel; the packages it needs are those of this environment."""
    home = tmp_path_factory.mktemp("installed")
    venv.create(home, symlinks=True, with_pip=False)
    python = home / "bin" / "python"
    pip = [sys.executable, "-m", "pip", f"--python={python}", "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*pip, str(wheel)], check=True, timeout=300)
    packages = next((home / "lib").glob("python*/site-packages"))
    # A path in such a file is searched last, and an editable install's own .pth in it is not read.
    (packages / "needed.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    return home / "bin" / "sgtr"


def outcome(words: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    env = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "SGTR_DATA_MIRROR")}
    return subprocess.run(words, cwd=folder, env=env, capture_output=True, text=True, timeout=600)


def test_everything_that_a_checkout_has_is_in_the_wheel(wheel: Path) -> None:
    listed = ["git", "ls-files", "sgtr_jax", "eval/sgtr_eval", "configs"]
    tracked = subprocess.run(listed, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split("\n")
    inside = {
        name if not name.startswith("configs/") else f"sgtr_jax/{name}"
        for name in (line.removeprefix("eval/") for line in tracked if line)
    }
    assert inside and inside <= set(zipfile.ZipFile(wheel).namelist())


def test_the_demo_runs_by_its_name_in_an_empty_folder(sgtr: Path, tmp_path: Path) -> None:
    where = [str(sgtr.parent / "python"), "-c", "import sgtr_jax, sgtr_eval; print(sgtr_jax.__file__)"]
    assert outcome(where, tmp_path).stdout.startswith(str(sgtr.parent.parent))
    part = ["only=unpopular", "seeds=1", "measure=[two_choice,em_questions]"]
    done = outcome([str(sgtr), "run", "demo", *part], tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "runs" / "demo" / "report.html").is_file()
    assert {path.name for path in tmp_path.iterdir()} == {"runs"}
    status = outcome([str(sgtr), "status", "runs/demo"], tmp_path)
    assert status.returncode == 0 and "done" in status.stdout


def test_a_template_and_the_study_are_there(sgtr: Path, tmp_path: Path) -> None:
    assert outcome([str(sgtr), "init", "mine"], tmp_path).returncode == 0
    listed = outcome([str(sgtr), "run", "experiment.yaml", "--list"], tmp_path / "mine")
    assert listed.returncode == 0 and "to do" in listed.stdout, listed.stderr
    listed = outcome([str(sgtr), "run", "paper/qwen2.5-32b", "--list"], tmp_path)
    assert listed.returncode == 0 and "to do" in listed.stdout, listed.stderr
