import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ffr_core.index.bm25 import Bm25, tokenize

TEXTS = ["Ana: the red bus", "Ben: the blue bus and the red car", "咱们明天去吃火锅"]


def test_tokens_are_lower_cased_words_without_punctuation():
    assert tokenize("Don't GO, Zoë_9!") == ["don", "t", "go", "zoë_9"]


def test_decomposed_accents_do_not_split_a_word():
    assert tokenize("Jose\u0301") == tokenize("Jos\u00e9") == ["jos\u00e9"]


def test_chinese_is_split_into_words_and_mixed_runs_stay_apart():
    assert tokenize("明天吃火锅ok吗") == ["明天", "火锅", "吃火锅", "ok", "吗"]


def test_scores_follow_the_formula():
    texts = ["red red bus", "blue bus"]
    scores = Bm25(texts, k1=1.2, b=0.75).scores("red")
    idf = math.log(1 + (2 - 1 + 0.5) / (1 + 0.5))
    expected = idf * 2 * 2.2 / (2 + 1.2 * (0.25 + 0.75 * 3 / 2.5))
    assert scores == pytest.approx([expected, 0.0])


def test_repeated_query_words_count_as_often():
    index = Bm25(TEXTS)
    assert index.scores("bus bus") == pytest.approx(2 * index.scores("bus"))
    assert index.scores(["bus"]) == pytest.approx(index.scores("Bus!"))


def test_unknown_words_and_empty_collections_score_zero():
    assert not Bm25(TEXTS).scores("zeppelin").any()
    assert Bm25([]).scores("bus").shape == (0,)
    assert Bm25(["", "!"]).scores("bus").tolist() == [0.0, 0.0]


def test_idf_of_rare_words_is_larger():
    index = Bm25(TEXTS)
    assert index.idf("bus") < index.idf("blue") < index.idf("zeppelin")


@given(st.lists(st.text(alphabet="ab 火c", max_size=12), min_size=1, max_size=6))
def test_only_texts_that_share_a_word_score(texts):
    scores = Bm25(texts).scores("a 火")
    shared = [bool({"a", "火"} & set(tokenize(text))) for text in texts]
    assert np.array_equal(scores > 0, shared)
