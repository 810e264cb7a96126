"""Evaluation reports: systems over sets, the paper's tables, failures, judging without gold.

`config` and `sets` say what is compared, `systems` (`simple`, `embedding_systems`, `reading`) how a
system selects, segments, recalls and searches, `answers` what went wrong while it read, `cell` runs
one system over one set, `fingerprints` says whether it must, `scoring` turns cells into numbers,
`tables`, `plots`, `page` and `failures` show them, `judging` and its parts ask people and models.
"""
