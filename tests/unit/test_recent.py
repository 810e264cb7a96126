import time

from ffr_core.recent import Recent


def test_the_values_used_last_stay():
    kept = Recent(capacity=2)
    kept.put("a", 1)
    kept.put("b", 2)
    assert kept.get("a") == 1
    kept.put("c", 3)
    assert (kept.get("a"), kept.get("b"), kept.get("c")) == (1, None, 3)


def test_age_counts_from_the_writing_however_often_a_value_is_used():
    now = [0.0]
    kept = Recent(capacity=9, lifetime=10, clock=lambda: now[0])
    kept.put("a", 1)
    now[0] = 9
    assert kept.get("a") == 1
    kept.put("b", 2)
    now[0] = 10
    assert kept.get("a") is None
    assert kept.get("b") == 2


def test_a_value_leaves_memory_though_nobody_asks():
    kept = Recent(capacity=9, lifetime=0.1)
    kept.put("a", 1)
    assert len(kept) == 1
    deadline = time.monotonic() + 5
    while len(kept) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert len(kept) == 0


def test_what_is_named_is_dropped_at_once():
    kept = Recent(capacity=9)
    for key in ("t/1", "t/2", "u/1"):
        kept.put(key, key)
    kept.drop(lambda key, value: key.startswith("t/"))
    assert [kept.get(key) for key in ("t/1", "t/2", "u/1")] == [None, None, "u/1"]
