"""What the README says exists: commands, options, targets, files, Python names."""

import ast
import importlib
import re
from pathlib import Path

import pytest
import typer.main

from jobs.cli import app

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = typer.main.get_command(app).commands


def test_every_command_and_option_exists():
    calls = re.findall(r"\bffrs ([a-z]+)([^\n|`]*)", README)
    assert {name for name, _ in calls} >= set(COMMANDS)
    for name, rest in calls:
        known = {option for p in COMMANDS[name].params for option in (*p.opts, *p.secondary_opts)}
        assert set(re.findall(r"--[a-z-]+", rest)) <= known, name


def test_every_make_target_exists():
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"(?:^|`)(?:[A-Z]+=\S+ )?make ([a-z]+)", README, re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_every_file_exists():
    for path in re.findall(r"`((?:ffr_core|jobs|serve|tests)(?:/[\w./]+)?)`", README):
        assert (ROOT / path).exists(), path


def test_python_blocks_import_what_exists():
    for block in re.findall(r"```python\n(.*?)```", README, re.DOTALL):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom):
                module = importlib.import_module(node.module)
                assert all(hasattr(module, alias.name) for alias in node.names)


@pytest.mark.parametrize("path", sorted((ROOT / "jobs" / "configs").rglob("*.toml")), ids=str)
def test_each_config_starts_with_the_command_that_runs_it(path):
    first = path.read_text().splitlines()[0]
    programs = r"python -m jobs\.|ray job submit .* -- python -m jobs\.|cluster/\w+\.sh |ffrs "
    assert re.match(rf"# (\w+=\S+ )*({programs})", first)
