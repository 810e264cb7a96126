"""`python -m jobs.bench NAME --json OUT [options]`: run one benchmark and write its results."""

from __future__ import annotations

import argparse
import importlib
import json
import pkgutil
import sys
from collections.abc import Sequence
from pathlib import Path

import jobs.bench
from jobs.bench.common import envelope, write_json

HELPERS = ("__main__", "common", "costs", "trl_peer", "watch")
"""Modules of this package that are no benchmarks."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse, run, write."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    names = benchmarks()
    parser = argparse.ArgumentParser(prog="python -m jobs.bench", description=__doc__)
    chosen = parser.add_subparsers(dest="benchmark", required=True, metavar="NAME")
    for name in names:
        if arguments[:1] != [name]:
            chosen.add_parser(name)
            continue
        module = importlib.import_module(f"jobs.bench.{name}")
        options = chosen.add_parser(name, description=module.__doc__)
        options.add_argument("--json", type=Path, help="file for the results; else printed")
        module.add_arguments(options)
    values = vars(parser.parse_args(arguments))
    name, path = values.pop("benchmark"), values.pop("json")
    result = envelope(name, arguments, importlib.import_module(f"jobs.bench.{name}").run(**values))
    if path is None:
        print(json.dumps(result, indent=2, ensure_ascii=False))
    else:
        write_json(path, result)


def benchmarks() -> list[str]:
    """Names of the modules that are benchmarks."""
    modules = (module.name for module in pkgutil.iter_modules(jobs.bench.__path__))
    return sorted(name for name in modules if name not in HELPERS)


if __name__ == "__main__":
    main()
