"""Localizers: a query and a part of a dialogue to the turns and images that answer it.

`embedding` is the one that needs no GPU. Importing this package loads nothing.
"""
