"""The tiny Qwen2-VL family: architecture, tokenizer, base training, all on two cores."""
