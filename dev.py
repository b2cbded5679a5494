#!/usr/bin/env python3
"""Set up and run watcher from a clone, with nothing but Python 3.11 or newer.

    python3 dev.py demo [--seconds N]   a conversation with a support agent, played on this machine
    python3 dev.py test [ARGS...]       the tests (ARGS go to pytest)
    python3 dev.py lint                 style, layout and types
    python3 dev.py format               let the formatter rewrite the files
    python3 dev.py watcher ARGS...      the command itself, e.g. `python3 dev.py watcher check`
    python3 dev.py lock                 resolve pyproject.toml into requirements.lock anew

The first run creates `.venv` and installs exactly what `requirements.lock` names, hash-checked. Only the
standard library is used here.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
BIN = VENV / ("Scripts" if os.name == "nt" else "bin")
LOCK = ROOT / "requirements.lock"
SDK_LOCK = ROOT / "requirements-sdk.lock"
STAMP = VENV / "installed"
SDK_STAMP = VENV / "installed-sdk"
PIP = [BIN / "python", "-m", "pip", "--disable-pip-version-check", "--no-input", "install", "--quiet"]
OLDEST = (3, 11)


def main(args: list[str]) -> int:
    """Do what the first argument says; return the exit status."""
    if sys.version_info < OLDEST:
        print(f"watcher needs Python 3.11 or newer; this is {sys.version.split()[0]}.", file=sys.stderr)
        return 2
    task, rest = (args[0], args[1:]) if args else ("help", [])
    match task:
        case "demo":
            return become("watcher", "demo", *rest)
        case "watcher":
            return become("watcher", *rest)
        case "test":
            set_up_sdk()
            # Much of the whole suite is waiting for processes to start: one worker more than there are cores.
            workers = f"--numprocesses={(os.cpu_count() or 1) + 1}"
            return run("python", "-m", "pytest", *(rest or [workers]))
        case "lint":
            checks = (("ruff", "format", "--check"), ("ruff", "check"), ("mypy",))
            return max(run(*check) for check in checks)
        case "format":
            return max(run("ruff", "check", "--fix-only", "--quiet"), run("ruff", "format"))
        case "lock":
            return lock()
        case _:
            print(__doc__)
            return 0 if task in {"help", "-h", "--help"} else 2


def run(program: str, *args: str) -> int:
    """Run a program of the virtual environment, which is made or brought up to date first."""
    set_up()
    return subprocess.call([BIN / program, *args], cwd=ROOT)


def become(program: str, *args: str) -> int:
    """Go on as a program of the virtual environment, so that signals reach it and its exit status is ours."""
    set_up()
    os.execv(BIN / program, [program, *args])  # noqa: S606


def set_up() -> None:
    """Make `.venv` hold exactly what the lock names, unless it does already."""
    wanted = fingerprint(LOCK, ROOT / "pyproject.toml")
    if is_stamped(STAMP, wanted):
        return
    print("Setting up .venv (once; about a minute) ...", file=sys.stderr, flush=True)
    create_venv()
    install([*PIP, "--require-hashes", "--only-binary", ":all:", "-r", LOCK])
    install([*PIP, "--no-deps", "--no-build-isolation", "--editable", ROOT])
    STAMP.write_text(wanted)


def set_up_sdk() -> None:
    """Add the vendor's SDK, with which the tests call the simulator; parts of it are built from source."""
    set_up()
    wanted = fingerprint(LOCK, SDK_LOCK)
    if is_stamped(SDK_STAMP, wanted):
        return
    print("Adding the vendor's SDK for the tests (once) ...", file=sys.stderr, flush=True)
    install([*PIP, "--require-hashes", "--no-build-isolation", "-r", SDK_LOCK])
    SDK_STAMP.write_text(wanted)


def fingerprint(*files: Path) -> str:
    """Return what changes when one of the files or the interpreter does."""
    return hashlib.sha256(b"".join(file.read_bytes() for file in files) + sys.version.encode()).hexdigest()


def is_stamped(stamp: Path, wanted: str) -> bool:
    """Tell whether the set-up that ``stamp`` stands for was made for exactly these files."""
    return stamp.exists() and stamp.read_text() == wanted


def create_venv() -> None:
    """Create the virtual environment, also where the system's Python came without ensurepip."""
    shutil.rmtree(VENV, ignore_errors=True)
    try:
        venv.create(VENV, with_pip=True)
    except subprocess.CalledProcessError:
        shutil.rmtree(VENV, ignore_errors=True)
        tools = ROOT / ".venv-tools"
        install([sys.executable, "-m", "pip", "install", "--quiet", "--target", tools, "virtualenv"])
        install([sys.executable, "-m", "virtualenv", "--quiet", VENV], PYTHONPATH=str(tools))
        shutil.rmtree(tools)


def lock() -> int:
    """Write names, versions and hashes, and nothing that says where a package came from."""
    install([*PIP, "uv"])
    compile_ = [
        BIN / "uv",
        "pip",
        "compile",
        "-q",
        "--universal",
        "--generate-hashes",
        "--no-annotate",
        "--no-header",
    ]
    os.chdir(ROOT)
    install([*compile_, "--upgrade", "pyproject.toml", "--group", "dev", "-o", LOCK])
    install([*compile_, "--upgrade", "--group", "sdk", "-c", LOCK, "-o", SDK_LOCK])
    return 0


def install(command: list[str | Path], **env: str) -> None:
    """Run one step of the set-up; a failure ends everything with what failed and what to do."""
    if subprocess.call(command, env=os.environ | env) != 0:
        words = " ".join(str(word) for word in command)
        sys.exit(f"dev.py: setting up failed at: {words}\nMend what it says above, then run this again.")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
