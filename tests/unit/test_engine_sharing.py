"""Engines that several parts of a process share."""

from ffr_core.engine.build import close_shared_engines, shared_engine
from ffr_core.engine.config import EngineConfig
from ffr_core.engine.lazy import LazyEngine
from ffr_core.images import ImageLimits, ImageReader


def test_a_closed_engine_is_not_handed_out_again():
    config, images = EngineConfig(kind="scripted"), ImageReader(limits=ImageLimits())
    lazy = LazyEngine(config, images)
    lazy.generate([])
    first = shared_engine(config, images)
    lazy.close()
    try:
        assert shared_engine(config, images) is not first
    finally:
        close_shared_engines()
