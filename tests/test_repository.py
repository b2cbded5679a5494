"""What the repository promises about itself: its lock files, its task runner, its documents."""

import ast
import re
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest

from watcher.config.load import load
from watcher.config.sinks import Sink

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def tracked() -> list[Path]:
    """Return the files of the repository; without git, those that a source archive holds."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False)
    if listed.returncode != 0:
        return [path for path in ROOT.rglob("*") if path.is_file() and ".venv" not in path.parts]
    return [path for name in listed.stdout.decode().split("\0") if name and (path := ROOT / name).exists()]


@pytest.mark.parametrize("name", ["requirements.lock", "requirements-sdk.lock"])
def test_a_lock_holds_names_versions_and_hashes_and_nothing_else(name: str) -> None:
    for line in (ROOT / name).read_text().splitlines():
        assert re.fullmatch(r"[a-z0-9._-]+==\S+( ; .+)? \\|    --hash=sha256:[0-9a-f]{64}( \\)?", line), line


def test_no_file_says_where_packages_come_from() -> None:
    pattern = re.compile(r"--(extra-)?index-url|pythonhosted|\"resolved\": \"http".replace("-index", "[-]index"))
    for path in tracked():
        if path.suffix != ".png" and path != Path(__file__):
            assert not pattern.search(path.read_text(errors="replace")), path


def test_the_task_runner_uses_only_the_standard_library() -> None:
    tree = ast.parse((ROOT / "dev.py").read_text())
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {name.split(".")[0] for name in imported} <= sys.stdlib_module_names


def test_the_task_runner_explains_itself_without_setting_anything_up() -> None:
    done = subprocess.run([sys.executable, "dev.py", "help"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert "dev.py demo" in done.stdout


def test_an_unknown_task_is_wrong_usage() -> None:
    done = subprocess.run([sys.executable, "dev.py", "tset"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2


DOCUMENTS = {
    path.relative_to(ROOT).as_posix(): path.read_text() for path in (ROOT / "README.md", *ROOT.glob("docs/*.md"))
}
BLOCKS = [
    pytest.param(block, id=f"{name}: {block.splitlines()[1].strip()}")
    for name, text in DOCUMENTS.items()
    for block in re.findall(r"```yaml\n(.*?)```", text, flags=re.DOTALL)
]


@pytest.mark.parametrize("block", BLOCKS)
def test_every_configuration_in_the_documents_loads(tmp_path: Path, block: str) -> None:
    text = block if "version:" in block else "version: 1\naccounts: {main: {}}\n" + block
    file = tmp_path / "watcher.yaml"
    file.write_text(text if "sinks:" in text else text + "sinks: {me: {type: console}}\n")
    load(file, {})


@pytest.mark.parametrize("name", ["README.md", "docs/sinks.md"])
def test_every_type_of_sink_is_told_of(name: str) -> None:
    types = {get_args(member.model_fields["type"].annotation)[0] for member in get_args(get_args(Sink)[0])}
    assert {kind for kind in types if not re.search(rf"\b{kind}\b", DOCUMENTS[name])} == set()


@pytest.mark.parametrize(
    ("name", "link"),
    [(name, link) for name, text in DOCUMENTS.items() for link in re.findall(r"\]\(((?!http)[^)#]+)[^)]*\)", text)],
)
def test_every_file_that_a_document_links_to_exists(name: str, link: str) -> None:
    assert (ROOT / name).parent.joinpath(link).exists()


def test_every_command_in_the_readme_exists() -> None:
    from watcher.cli import cli  # noqa: PLC0415

    named = set(re.findall(r"(?:`|\$ )watcher ([a-z]+)", README))
    assert named == set(cli.commands)


@pytest.mark.parametrize("path", re.findall(r"\]\(((?!http)[^)#]+)\)|`((?:watcher|tests|systemd)/[\w./-]+)`", README))
def test_every_file_that_the_readme_names_exists(path: tuple[str, str]) -> None:
    assert (ROOT / (path[0] or path[1])).exists()
