"""Engines: rendered messages to text. Importing this package loads nothing heavy.

`transformers` and `vllm` run a Qwen2-VL here, `openai` asks a server, `scripted` answers from a
function. All follow `ffr_core.protocols.Engine` and pass the same contract test.
"""
