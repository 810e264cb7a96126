import math

import pytest

from ffr_core.dataset.chat_text import ChatRules
from ffr_core.dataset.clean_corpus import CorpusRules
from ffr_core.dataset.cleaning import CleaningRules
from ffr_core.dataset.queries import QueryRules
from ffr_core.dataset.splits import SplitRules
from ffr_core.dataset.triplets import MatchingRules
from ffr_core.errors import ConfigError
from jobs.dataset_config import DatasetConfig
from jobs.prepare_chatlog import ChatlogConfig


@pytest.mark.parametrize(
    ("rules", "settings"),
    [
        (SplitRules, {"sft_share": 7.0}),
        (SplitRules, {"boundary_test_share": -0.1}),
        (SplitRules, {"num_fem_clusters": 0}),
        (MatchingRules, {"num_matches": 0}),
        (MatchingRules, {"num_candidates": 0}),
        (MatchingRules, {"text_weight": math.nan}),
        (MatchingRules, {"cell_size": 0}),
        (CleaningRules, {"max_aspect": -1}),
        (CleaningRules, {"min_side": -1}),
        (CleaningRules, {"min_image_text": 1.5}),
        (CorpusRules, {"num_topics": 0}),
        (QueryRules, {"negative": -0.5}),
        (ChatRules, {"max_turns": 0}),
    ],
)
def test_a_setting_out_of_range_is_refused(rules, settings):
    (name,) = settings
    with pytest.raises(ConfigError, match=f"^{name} is .*, expected "):
        rules(**settings)


def test_all_settings_out_of_range_are_named_at_once():
    with pytest.raises(ConfigError) as caught:
        MatchingRules(num_matches=0, text_weight=-1)
    assert str(caught.value) == (
        "num_matches is 0, expected at least 1; text_weight is -1, expected at least 0;"
        " correct the configuration"
    )


def test_held_out_pools_leave_something_to_train_on():
    with pytest.raises(ConfigError, match="leave nothing to train on"):
        SplitRules(boundary_test_share=0.6, max_validation_share=0.4)


@pytest.mark.parametrize(
    ("config", "values", "message"),
    [
        (DatasetConfig, {"splits": {"sft_share": 7.0}}, "sft_share is 7.0, expected 0 to 1"),
        (DatasetConfig, {"matching": {"num_matches": 0}}, "num_matches is 0, expected at least 1"),
        (DatasetConfig, {"cleaning": {"max_aspect": -1}}, "max_aspect is -1"),
        (DatasetConfig, {"annotate": {"gpus": -1}}, "annotate.gpus"),
        (DatasetConfig, {"embedding": {"cpus": -1}}, "embedding.cpus"),
        (
            DatasetConfig,
            {"engine": {"kind": "scripted"}, "annotate": {"structured": True}},
            "the scripted annotator follows no",
        ),
        (ChatlogConfig, {"rules": {"min_images": -1}}, "min_images is -1, expected at least 0"),
    ],
)
def test_configurations_are_checked(config, values, message):
    needed = {"input": ("in",), "out": "out"}
    config.parse(needed, "run.toml")
    with pytest.raises(ConfigError, match=message):
        config.parse({**needed, **values}, "run.toml")
