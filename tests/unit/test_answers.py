"""Answers as a person reads them: times in the zone of this machine."""

import time

import pytest

from ffr_core.answers import describe_record, local_time


@pytest.fixture
def in_zone(monkeypatch):
    """Sets the zone of this process until the test ends."""

    def set_zone(name):
        monkeypatch.setenv("TZ", name)
        time.tzset()

    yield set_zone
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    ("zone", "written", "shown"),
    [
        ("UTC", "2022-01-01T00:00:00+00:00", "2022-01-01 00:00"),
        ("UTC", "2022-01-01T00:00:00+01:00", "2021-12-31 23:00+00:00"),
        ("Europe/Paris", "2022-01-01T00:00:59+01:00", "2022-01-01 00:00"),
        ("Europe/Paris", "2022-07-01T00:00:00+00:00", "2022-07-01 02:00+02:00"),
        ("America/New_York", "2022-01-01T00:00:00Z", "2021-12-31 19:00-05:00"),
        ("America/New_York", "0001-01-01T00:00:00+00:00", "0001-01-01T00:00:00+00:00"),
        ("Europe/Paris", "02/03/25 18:04, about noon", "02/03/25 18:04, about noon"),
        ("Europe/Paris", "20250302", "20250302"),
    ],
)
def test_times_are_local_and_name_the_offset_where_it_is_another(in_zone, zone, written, shown):
    in_zone(zone)
    assert local_time(written) == shown


def test_a_dialogue_shows_local_times(in_zone):
    in_zone("Asia/Tokyo")
    turn = {"turn_id": 0, "speaker": "Bob", "text": "Happy new year", "matched": True}
    turn |= {"timestamp": "2022-01-01T00:00:00+01:00", "confidence": 0.5, "images": []}
    record = {"dialogue_id": "d", "title": "Trip", "score": 1, "spans": [[0, 1]], "turns": [turn]}
    assert " > Bob (2022-01-01 08:00+09:00): Happy new year  50%" in describe_record(record)


def test_lines_of_a_message_stand_below_each_other_and_pictures_say_where_they_are():
    image = {"image_id": 0, "url": "chat/map.png", "caption": None, "confidence": 0.4}
    missing = {"image_id": 1, "url": None, "caption": "the map", "confidence": None}
    turn = {"turn_id": 0, "speaker": "Bob", "text": "here\nand there", "timestamp": None}
    turn |= {"matched": True, "confidence": None}
    turn |= {"images": [image | {"matched": True}, missing | {"matched": False}]}
    record = {"dialogue_id": "d", "title": "", "score": 1, "spans": [[0, 1]], "turns": [turn]}
    assert describe_record(record).splitlines()[1:] == [
        " > Bob: here",
        "     and there",
        "     [image 0] chat/map.png  40%",
        "     [image 1: the map] (no file)",
    ]
