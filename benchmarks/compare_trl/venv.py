"""TRL's own virtual environment, built at its first use."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from sample_efficiency.places import ROOT

FOLDER = ROOT / ".venv-trl"
LOCK = ROOT / "requirements-trl.lock"


def trl_python(folder: Path = FOLDER, lock: Path = LOCK) -> str:
    """Its interpreter; the environment holds what the lock pins, and is built anew when the lock has changed."""
    python, done = folder / "bin" / "python", folder / ".setup"
    if not done.exists() or done.read_text() != lock.read_text():
        print(f"Setting up {folder.name} for TRL (some minutes) ...", file=sys.stderr, flush=True)
        done.unlink(missing_ok=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
        pip = [str(python), "-m", "pip", "--disable-pip-version-check", "--no-input", "install", "--quiet", "--quiet"]
        subprocess.run([*pip, "--requirement", str(lock)], check=True, stdout=sys.stderr)
        done.write_text(lock.read_text())
    return str(python)
