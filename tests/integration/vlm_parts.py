"""A profile whose segmenter and localizer are adapters of a tiny untrained Qwen2-VL.

Greedy answers under a grammar depend on adapter, query and fragment, so that a service can be
compared with the same profile in this process, selection by selection.
"""

import random

from jobs.tiny.architecture import write_random_model

PROFILE = """
[encoder]
kind = "hashing"
[engine]
kind = "transformers"
path = "MODEL"
dtype = "float32"
[engine.adapters]
segmenter = "FOLDER/segmenter"
f2rvlm = "FOLDER/ADAPTER"
[segmenter]
kind = "vlm"
adapter = "segmenter"
prompts = "compact"
[localizer]
kind = "f2rvlm"
adapter = "f2rvlm"
prompts = "compact"
[index]
kind = "INDEX"
uri = "{home}/i.db"
[storage]
uri = "{home}/store"
[serve]
ingress_cpus = 0.05
owner_cpus = 0.1
localizer_cpus = 0.1
localizer_min = 2
localizer_max = 2
localizer_ongoing = 64
group_size = 1
candidate_timeout = 20.0
drain_timeout = 10.0
"""
WORDS = ["red", "bicycle", "beach", "meet", "Saturday", "station", "look", "at", "the", "we", "on"]


def write_models(folder):
    """The base in `model`, adapters `segmenter`, `one` and `two`."""
    write_random_model(folder / "model")
    for seed, (name, scale) in enumerate([("segmenter", 0.3), ("one", 0.5), ("two", 0.5)]):
        write_adapter(folder / "model", folder / name, scale, seed)


def write_adapter(model, out, scale, seed):
    """A LoRA of random weights."""
    import torch
    from peft import LoraConfig, get_peft_model

    from ffr_core.engine.loading import load_model

    torch.manual_seed(seed)
    config = LoraConfig(r=4, lora_alpha=8, target_modules=r".*language_model.*\.(q|v|up)_proj")
    adapted = get_peft_model(load_model(model), config)
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=scale)
    adapted.save_pretrained(out)


def profile_text(folder, adapter="one", index="exact"):
    """The profile with one of the adapters as localizer."""
    text = PROFILE.replace("MODEL", str(folder / "model")).replace("FOLDER", str(folder))
    return text.replace("ADAPTER", adapter).replace("INDEX", index)


def record(name, num_turns=6, seed=0):
    """A dialogue of words that the tokenizer knows."""
    rng = random.Random(f"{name}{seed}")
    turns = [
        {
            "turn_id": i,
            "speaker": rng.choice(["Ana", "Ben"]),
            "text": " ".join(rng.choices(WORDS, k=5)),
        }
        for i in range(num_turns)
    ]
    return {"dialogue_id": name, "turns": turns}
