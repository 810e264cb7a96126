"""Benchmarks: `python -m jobs.bench NAME --json OUT`; each module beside this file is one."""
