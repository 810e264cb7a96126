"""Segmentation: a dialogue into possibly interleaved fragments."""

from ffr_core.segmentation.baselines import even_cuts, reply_rule, text_tiling
from ffr_core.segmentation.texttiling import TextTilingSegmenter

__all__ = ["TextTilingSegmenter", "even_cuts", "reply_rule", "text_tiling"]
