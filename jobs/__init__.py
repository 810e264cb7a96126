"""Entry points of `ray job submit` and the command line; each file reads top to bottom."""
