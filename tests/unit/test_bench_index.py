"""What the indexing benchmark embeds and writes."""

from ffr_core.types import Dialogue, Turn
from jobs.bench import index as bench


def test_windows_of_turns_are_embedded_and_written_as_the_job_does(tmp_path):
    profile = tmp_path / "p.toml"
    profile.write_text('window_tokens = 100\n[encoder]\nkind = "hashing"\n')
    turns = tuple(Turn(turn_id=i, speaker="Ana", text=f"bus {i}") for i in range(4))
    dialogue = Dialogue(dialogue_id="d", turns=turns, fragments=((0, 1, 2), (3,)))
    found = bench._encoder([dialogue], 4, str(profile))
    assert (found["fragments"], found["passages"]) == (4, 2 * (3 + 1) + 2)
    item = next(bench._random_items([dialogue], 8, 100))
    assert [len(part.passages) for part in item.fragments] == [4, 1]
