"""The drawing of the sample pictures: every kind and object, determinism, refusals."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import get_args

import pytest
from PIL import Image, ImageChops

from ffr_core.dataset.drawing import MAX_BYTES, SpecError, draw, encode, fonts
from ffr_core.dataset.drawing import canvas as canvas_module
from ffr_core.dataset.drawing.__main__ import main
from ffr_core.dataset.drawing.canvas import Canvas, Pen
from ffr_core.dataset.drawing.charts import axis_range
from ffr_core.dataset.drawing.objects import OBJECTS
from ffr_core.dataset.drawing.palette import COLORS
from ffr_core.dataset.drawing.scene import SETTINGS, depth
from ffr_core.dataset.drawing.specs import ColorName, ObjectName, SettingName, Thing
from ffr_core.dataset.drawing.text import fit_lines, text_width, wrap

SPECS: dict[str, dict[str, object]] = {
    "receipt": {
        "shop": "Corner Bakery",
        "date": "2025-03-02",
        "lines": [["Loaf", "4.50"], ["Milk", "1.10"]],
        "total": "5.60",
    },
    "bar_chart": {"title": "Power", "labels": ["Jan", "Feb"], "values": [3, 5], "unit": "kWh"},
    "line_chart": {"title": "Run", "labels": ["a", "b"], "values": [31.5, 28], "unit": "min"},
    "pie_chart": {"title": "Rent", "labels": ["a", "b"], "values": [70, 30], "unit": "EUR"},
    "table": {"title": "Rota", "header": ["Week", "Who"], "rows": [["1", "Maya"], ["2", ""]]},
    "map": {
        "title": "Hike",
        "places": [{"name": "Hut", "x": 10, "y": 80}, {"name": "Peak", "x": 80, "y": 20}],
        "route": ["Hut", "Peak"],
        "highlight": "Peak",
        "water": True,
    },
    "card": {"style": "ticket", "title": "Concert", "lines": ["Row 2"], "accent": "red"},
    "screen": {"app": "Parcel", "title": "Status", "rows": [["Order", "A1"]], "alert": "Late"},
    "calendar": {
        "title": "June",
        "days_in_month": 30,
        "first_weekday": 6,
        "marked": {"12": "dentist"},
    },
    "note": {"lines": ["Milk", "Eggs"], "paper": "pink", "style": "sticky"},
    "floor_plan": {"title": "Flat", "rooms": [{"name": "Bath", "x": 0, "y": 0, "w": 50, "h": 50}]},
    "weather": {"place": "Lake", "days": [["Fri", "sun", "24°"], ["Sat", "storm", "14°"]]},
    "scene": {
        "setting": "beach",
        "objects": [{"what": "ball", "color": "red", "x": 50, "y": 90, "size": 1}],
        "season": None,
    },
}
PORTRAIT_KINDS = {"receipt", "screen", "note"}


def has_cjk_font() -> bool:
    try:
        fonts.font_for("猫", 12)
    except fonts.FontMissingError:
        return False
    return True


needs_cjk = pytest.mark.skipif(
    not has_cjk_font(), reason="no font with Chinese glyphs; apt-get install fonts-noto-cjk"
)


def spec(kind: str, **changes: object) -> dict[str, object]:
    return {"name": "x.png", "kind": kind, **SPECS[kind], **changes}


@pytest.fixture
def coarse(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draws without the enlargement, which only smooths edges, for speed."""
    monkeypatch.setattr(canvas_module, "SCALE", 1)


def one_object(what: str, color: str) -> Image.Image:
    canvas = Canvas((200, 160), (128, 128, 128))
    art = OBJECTS[what]  # type: ignore[index]
    art.draw(Pen(canvas, 100, 150, 130 / max(art.width, art.height)), COLORS[color])
    return canvas.finish()


@pytest.mark.parametrize("kind", SPECS)
def test_every_kind_draws_the_same_small_picture_twice(kind: str) -> None:
    image = draw(spec(kind))
    assert image.tobytes() == draw(spec(kind)).tobytes()
    data = encode(image)
    assert len(data) <= MAX_BYTES
    picture = Image.open(io.BytesIO(data))
    assert picture.mode == "P"
    assert picture.size == ((480, 640) if kind in PORTRAIT_KINDS else (640, 480))
    assert len(picture.convert("RGB").getcolors(640 * 480) or []) > 4


@pytest.mark.parametrize("what", get_args(ObjectName))
def test_every_object_shows_its_color_inside_its_measures(what: str, coarse: None) -> None:
    art = OBJECTS[what]  # type: ignore[index]
    pen_size = 130 / max(art.width, art.height)
    red, blue = one_object(what, "red"), one_object(what, "blue")
    assert red.tobytes() == one_object(what, "red").tobytes()
    blank = Image.new("RGB", red.size, (128, 128, 128))
    left, top, right, _ = ImageChops.difference(red, blank).getbbox() or (0, 0, 0, 0)
    # The stated measures place shadows and carried things, so they may not lie.
    if what not in {"lamp", "campfire"}:  # whose light reaches further
        assert (right - left) / pen_size == pytest.approx(art.width, rel=0.3)
    if what != "cup":  # whose steam rises higher
        assert (150 - top) / pen_size == pytest.approx(art.height, rel=0.2)
    if what not in {"bread", "campfire"}:  # their colors are theirs, whatever is asked
        assert ImageChops.difference(red, blue).getbbox() is not None


def test_registries_cover_the_allowed_words() -> None:
    assert set(OBJECTS) == set(get_args(ObjectName))
    assert set(SETTINGS) == set(get_args(SettingName))
    assert set(COLORS) == set(get_args(ColorName))


@pytest.mark.parametrize("setting", get_args(SettingName))
def test_every_setting_fills_the_picture(setting: SettingName, coarse: None) -> None:
    canvas = Canvas((640, 480), (255, 0, 255))
    SETTINGS[setting](canvas, "autumn")
    colors = canvas.finish().getcolors(640 * 480) or []
    assert (255, 0, 255) not in {color for _, color in colors}


def test_color_changes_only_the_object() -> None:
    def ball(color: str) -> Image.Image:
        thing = {"what": "ball", "color": color, "x": 50, "y": 90, "size": 1}
        return draw(spec("scene", objects=[thing]))

    left, top, right, bottom = (
        ImageChops.difference(ball("red"), ball("green")).getbbox() or (0,) * 4
    )
    assert 270 < left < 320 < right < 370
    assert 340 < top < bottom <= 436


@needs_cjk
def test_chinese_text_is_drawn() -> None:
    latin, chinese = draw(spec("note")), draw(spec("note", lines=["牛奶", "鸡蛋十二个"]))
    assert ImageChops.difference(latin, chinese).getbbox() is not None


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        ({"name": "x.png", "kind": "photo"}, ["x.png", "'photo'", "'receipt'", "'scene'"]),
        ({"name": "x.png"}, ["x.png", "'kind' is missing", "floor_plan"]),
        (spec("card", accent="lime"), ["x.png", "accent", "'lime'", "'teal'"]),
        (
            spec("scene", objects=[{"what": "dragon", "color": "red", "x": 1, "y": 1}]),
            ["x.png", "objects.0.what", "'dragon'", "'bicycle'"],
        ),
        (
            spec("scene", objects=[{"what": "dog", "color": "red", "x": 1, "y": 101}]),
            ["objects.0.y", "101", "less than or equal to 100"],
        ),
        (spec("scene", setting="moonbase"), ["setting", "'moonbase'", "'night_sky'"]),
        (spec("note", font="serif"), ["'font' is not a parameter", "'note'"]),
        (spec("receipt", total=5), ["total", "5", "string"]),
        (spec("map", route=["Hut", "Moon"]), ["'Moon'", "'Hut', 'Peak'"]),
        (spec("bar_chart", values=[1]), ["2 labels but 1 values"]),
        (spec("pie_chart", values=[0, 0]), ["sum to 0", "more than 0"]),
        (spec("table", rows=[["1"]]), ["rows.0 has 1 cells", "2"]),
        (spec("calendar", marked={"31": "x"}), ["'31'", "'1' to '30'"]),
        (spec("note", lines=["party 🎉"]), ["x.png", "U+1F389", "remove it"]),
        (spec("card", title="very long " * 12), ["x.png", "too long", "shorten"]),
    ],
)
def test_wrong_specs_are_refused_in_one_sentence(raw: dict[str, object], words: list[str]) -> None:
    with pytest.raises(SpecError) as caught:
        draw(raw)
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message


def test_missing_chinese_font_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fonts, "_FOLDERS", ())
    for lookup in (fonts._find, fonts._load, fonts.font_for):
        lookup.cache_clear()
    try:
        with pytest.raises(fonts.FontMissingError, match=r"CJK glyphs.*fonts-noto-cjk"):
            fonts.font_for("猫", 31)
    finally:
        fonts._find.cache_clear()


def test_small_things_come_after_what_carries_them() -> None:
    def thing(what: ObjectName, y: float) -> Thing:
        return Thing(what=what, color="red", x=50, y=y)

    table, cup, person, sun, balloon = (
        thing("table", 90),
        thing("cup", 72),
        thing("person", 80),
        thing("sun", 95),
        thing("balloon", 20),
    )
    things = [balloon, cup, table, person, sun]
    ordered = sorted(things, key=lambda one: depth(one, things))
    assert ordered == [sun, person, table, cup, balloon]


def test_axis_range_is_round() -> None:
    assert axis_range([3, 47], from_zero=True) == (0, 50, 10)
    assert axis_range([31.5, 28.1], from_zero=False) == (28, 32, 1)
    low, high, _ = axis_range([5, 5], from_zero=False)
    assert low <= 5 <= high
    assert low < high


@needs_cjk
def test_wrapping_keeps_the_text_and_the_width() -> None:
    text = "Meet at the old mill, 今天下午三点在老茶馆门口见面，别忘了带伞。"
    lines = wrap(text, 20, 150)
    assert "".join(lines).replace(" ", "") == text.replace(" ", "")
    assert all(text_width(line, 20) <= 150 for line in lines)
    assert not any(line[0] in "，。" for line in lines)
    assert fit_lines("short", 400, 20) == (["short"], 20)


def test_command_draws_the_good_and_names_the_bad(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    specs, out = tmp_path / "specs.json", tmp_path / "out"
    good, bad = spec("note"), spec("card", name="bad.png", accent="lime")
    specs.write_text(json.dumps([{**good, "name": "good.png"}, bad]), encoding="utf-8")
    assert main([str(specs), str(out)]) == 1
    assert [path.name for path in out.iterdir()] == ["good.png"]
    printed = capsys.readouterr()
    assert "bad.png: accent is 'lime'" in printed.err
    assert "1 images drawn" in printed.out


@pytest.mark.parametrize("name", ["../x.png", "x.jpg", 3])
def test_command_refuses_names_that_are_no_file_names(
    name: object, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    specs = tmp_path / "specs.json"
    specs.write_text(json.dumps([{**spec("note"), "name": name}]), encoding="utf-8")
    assert main([str(specs), str(tmp_path / "out")]) == 1
    assert "entry 0 has name" in capsys.readouterr().err
