"""Set up and run, with nothing but Python and pip: ``python3 dev.py run`` and ``python3 dev.py test``.

Everything is installed into ``.venv`` beside this file; a second call uses what is there.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import time
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
STAMP = VENV / "installed"
PYTHON = VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
USAGE = """usage: python3 dev.py run               the bundled demonstration; writes into out/
       python3 dev.py run ARGUMENTS     python -m ditail_ext ARGUMENTS (see: python3 dev.py run --help)
       python3 dev.py test [ARGUMENTS]  linter, formatter, type checker and tests (ARGUMENTS go to pytest)
       python3 dev.py test --all ...    the same with the full products, marked slow"""

WORKERS = ("-n2", "--dist=loadgroup", "--no-loadscope-reorder")
"""Two: one keeps a core busy, with the WebUI that it waits for."""


def main(arguments: list[str]) -> int:
    """Run one of the two commands; returns the exit status."""
    if not arguments or arguments[0] not in ("run", "test"):
        print(USAGE, file=sys.stderr)
        return 2
    command, rest = arguments[0], arguments[1:]
    try:
        set_up(tests=command == "test", benches="--all" in rest)
        return test(rest) if command == "test" else run(rest)
    except subprocess.CalledProcessError as error:
        print(f"The set-up failed at: {' '.join(map(str, error.cmd))}", file=sys.stderr)
        return 1


def set_up(*, tests: bool, benches: bool = False) -> None:
    """Create ``.venv`` and install what is missing in it."""
    if not (3, 10) <= sys.version_info[:2] < (3, 12):
        sys.exit(f"Python 3.10 or 3.11 is needed, not {sys.version.split()[0]}; start dev.py with one of these.")
    files = ["run.txt", "run-nodeps.txt", *["test.txt"] * tests, *["bench.txt"] * benches]
    content = [f"{name}\n{(ROOT / 'requirements' / name).read_text('utf-8')}" for name in files]
    wanted = {name: hashlib.sha256(text.encode()).hexdigest() for name, text in zip(files, content, strict=True)}
    done = dict(line.split() for line in STAMP.read_text("utf-8").splitlines()) if STAMP.is_file() else {}
    missing = [name for name in files if done.get(name) != wanted[name]]
    if not missing and PYTHON.is_file():
        return
    started = time.monotonic()
    if not PYTHON.is_file():
        print("Creating .venv ...", flush=True)
        create_environment()
    for name in missing:
        print(f"Installing requirements/{name} ...", flush=True)
        no_dependencies = ["--no-deps"] if "nodeps" in name else []
        pip("install", "--quiet", "--disable-pip-version-check", *no_dependencies, "-r", f"requirements/{name}")
    STAMP.write_text("".join(f"{name} {digest}\n" for name, digest in (done | wanted).items()), "utf-8")
    print(f"Set up in {time.monotonic() - started:.0f} s.", flush=True)


def create_environment() -> None:
    """A virtual environment, with a pip of its own where Python was packaged with one."""
    try:
        venv.create(VENV, with_pip=True)
    except subprocess.CalledProcessError:  # Debian packages Python without ensurepip
        venv.create(VENV, with_pip=False, clear=True)


def pip(*arguments: str) -> None:
    """Run pip in the virtual environment: its own, or the outer one on its behalf."""
    own = subprocess.run([PYTHON, "-m", "pip", "--version"], capture_output=True, check=False).returncode == 0
    command = [str(PYTHON), "-m", "pip"] if own else [sys.executable, "-m", "pip", "--python", str(PYTHON)]
    subprocess.run([*command, *arguments], cwd=ROOT, check=True)


def run(arguments: list[str]) -> int:
    """The embedded host: the demonstration, or whatever is asked for."""
    return in_environment("-m", "ditail_ext", *arguments) if arguments else in_environment("-m", "demo.run")


def test(arguments: list[str]) -> int:
    """Linter, formatter, type checker, tests; the first failure ends it."""
    chosen = () if "--all" in arguments else ("-m", "not slow")
    pytest = ["pytest", *WORKERS, *chosen, *(word for word in arguments if word != "--all")]
    checks = (["ruff", "check", "."], ["ruff", "format", "--check", "."], ["mypy"], pytest)
    return next((status for check in checks if (status := in_environment("-m", *check))), 0)


def in_environment(*arguments: str) -> int:
    """Run Python of the environment in the project's folder; returns its exit status."""
    print("$ python", *arguments, flush=True)
    try:
        return subprocess.run([PYTHON, *arguments], cwd=ROOT, check=False).returncode
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
