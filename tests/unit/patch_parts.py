"""How many prompts with patches of pictures are alive at once."""

import gc
import weakref

from ffr_core.engine.inputs import PromptEncoder


def count_patches(monkeypatch):
    """From now on: the number of prompts whose patches are in memory, after each that is made."""
    alive, counts = weakref.WeakSet(), []
    expand = PromptEncoder.expand

    def counted(encoder, prompt, answer=None):
        made = expand(encoder, prompt, answer)
        alive.add(made.pixel_values)
        gc.collect()
        counts.append(len(alive))
        return made

    monkeypatch.setattr(PromptEncoder, "expand", counted)
    return counts
