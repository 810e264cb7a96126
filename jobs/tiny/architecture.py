"""A Qwen2-VL of about two million parameters, with its own small tokenizer.

Everything that the large model has is here and has the same names: vision tower, M-RoPE, chat
template, image tokens. Pictures are scaled to 56 x 56 pixels, 4 image tokens each. Every marker of
the paper (Sec 3) and every number from 0 to 199 is one token.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

MARKERS = tuple(
    f"<|{name}_{side}|>"
    for name in ("utt_id", "img_id", "query", "utt_ids", "img_ids")
    for side in ("start", "end")
)
VISION = ("<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")
CHAT = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
NUM_NUMBERS = 200
PICTURE_PIXELS = 56 * 56
_SPLIT = r", (?=\p{N})|\p{N}{1,3}| ?\p{L}+| ?[^\s\p{L}\p{N}]|\s+"

CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}"
    "{% else %}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% else %}{{ part['text'] }}{% endif %}{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def build_tokenizer(texts: Iterable[str], vocab_size: int = 3000) -> Any:
    """Train a byte-level BPE whose markers and small numbers are single tokens.

    Args:
        texts: What it should know; anything else is spelled in bytes.
        vocab_size: Upper bound, added tokens included.

    Returns:
        A `PreTrainedTokenizerFast` with the Qwen2-VL special tokens and chat template.
    """
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_SPLIT), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    specials = [*CHAT, *VISION, *MARKERS]
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=specials,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    numbers = [" ".join(str(n) for n in range(NUM_NUMBERS))] * 50
    frame = ["[3, 4, 17] user\nassistant\nsystem\n: ,;[]\n"] * 50
    tokenizer.train_from_iterator([*texts, *numbers, *frame], trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=[*CHAT[1:2], *VISION, *MARKERS],
        model_max_length=4096,
        clean_up_tokenization_spaces=False,
    )
    fast.chat_template = CHAT_TEMPLATE
    return fast


def build_config(
    tokenizer: Any,
    *,
    hidden_size: int = 128,
    num_layers: int = 5,
    num_heads: int = 2,
    intermediate_size: int = 256,
    vision_size: int = 64,
    vision_depth: int = 3,
) -> Any:
    """The `Qwen2VLConfig` that fits a tokenizer; sizes as in the Qwen2-VL paper, much smaller."""
    from transformers import Qwen2VLConfig

    half = hidden_size // num_heads // 2
    spatial = half * 3 // 8
    token = tokenizer.convert_tokens_to_ids
    return Qwen2VLConfig(
        text_config={
            "vocab_size": -(-len(tokenizer) // 64) * 64,
            "hidden_size": hidden_size,
            "intermediate_size": intermediate_size,
            "num_hidden_layers": num_layers,
            "num_attention_heads": num_heads,
            "num_key_value_heads": num_heads,
            "max_position_embeddings": 4096,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 1_000_000.0,
                "mrope_section": [half - 2 * spatial, spatial, spatial],
            },
            "bos_token_id": None,
            "eos_token_id": token("<|im_end|>"),
            "pad_token_id": token("<|endoftext|>"),
        },
        vision_config={
            "depth": vision_depth,
            "embed_dim": vision_size,
            "hidden_size": hidden_size,
            "num_heads": 4,
            "patch_size": 14,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
        },
        image_token_id=token("<|image_pad|>"),
        video_token_id=token("<|video_pad|>"),
        vision_start_token_id=token("<|vision_start|>"),
        vision_end_token_id=token("<|vision_end|>"),
        tie_word_embeddings=True,
    )


def build_processor(tokenizer: Any) -> Any:
    """The `Qwen2VLProcessor`: every picture becomes 4 image tokens."""
    from transformers import Qwen2VLImageProcessor, Qwen2VLProcessor, Qwen2VLVideoProcessor

    size = {"shortest_edge": PICTURE_PIXELS, "longest_edge": PICTURE_PIXELS}
    return Qwen2VLProcessor(
        image_processor=Qwen2VLImageProcessor(size=size),
        tokenizer=tokenizer,
        video_processor=Qwen2VLVideoProcessor(size=size),
        chat_template=CHAT_TEMPLATE,
    )


def new_model(config: Any, seed: int) -> Any:
    """A `Qwen2VLForConditionalGeneration` with random fp32 weights, the same for the same seed."""
    import torch
    from transformers import GenerationConfig, Qwen2VLForConditionalGeneration

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = Qwen2VLForConditionalGeneration(config)
    model.generation_config = GenerationConfig(
        eos_token_id=config.text_config.eos_token_id, pad_token_id=config.text_config.pad_token_id
    )
    return model.eval()


def write_random_model(out: Path, seed: int = 0) -> None:
    """Write an untrained model folder (config, weights, tokenizer, processor), for tests."""
    sentences = [
        "Ana: look at the red bicycle on the beach, we meet on Saturday at the station"
    ] * 20
    tokenizer = build_tokenizer(sentences, vocab_size=640)
    config = build_config(
        tokenizer,
        hidden_size=64,
        num_layers=2,
        num_heads=2,
        intermediate_size=128,
        vision_size=32,
        vision_depth=1,
    )
    model = new_model(config, seed)
    build_processor(tokenizer).save_pretrained(out)
    model.save_pretrained(out)
