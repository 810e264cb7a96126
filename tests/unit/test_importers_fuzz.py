"""Random damage to the exports in tests/data: InputError or a report whose counts add up."""

import json
import random
import shutil
import zipfile
from collections import Counter
from pathlib import Path

from ffr_core.errors import InputError
from ffr_core.importers import import_export
from ffr_core.records import read_jsonl

DATA = Path(__file__).parents[1] / "data" / "exports"
SPICE = [
    b"\0", b"\xff\xfe", b"\r", b"\n", b'"', b"[", b"]", b"{", b"}", b"null", b"1e999", b"-1",
    b"NaN", b"\\ud800", "\u200e".encode(), "\u202f".encode(), b"99/99/2021, 10:00 - X: y\n",
    b"<attached: ",
    b"../../x.png", b"[31/12/21, 21:41:05] Eve: hi\n", b": ", b"true", b"[]", b"{}", b"9" * 400,
    b",",
]  # fmt: skip

ODD = [None, True, -1, 10**30, 1.5, "", "x", [], [[]], {}, {"a": 1}, "\ud800"]


def damage(data, rng):
    """One to four random edits of bytes, lines or JSON values."""
    for _ in range(rng.randint(1, 4)):
        start = rng.randrange(len(data) + 1)
        end = min(len(data), start + rng.choice([0, 1, 1, 3, 20, 200]))
        kind = rng.randrange(5)
        if kind == 0:
            data = data[:start] + data[end:]
        elif kind == 1:
            data = data[:start] + rng.choice(SPICE) + data[end:]
        elif kind == 2:
            data = data[:end] + data[start:end] + data[end:]
        elif kind == 3:
            data = (
                data[:start]
                + bytes(b ^ 1 << rng.randrange(8) for b in data[start:end])
                + data[end:]
            )
        else:
            data = data[:start] if rng.random() < 0.3 else swap_value(data, rng)
    return data


def swap_value(data, rng):
    """Replace a random value inside a JSON document by something of another kind."""
    try:
        root = json.loads(data)
    except (ValueError, RecursionError):
        return data
    node, path = root, []
    while isinstance(node, dict | list) and node and (not path or rng.random() < 0.8):
        key = rng.choice(list(node) if isinstance(node, dict) else range(len(node)))
        path.append((node, key))
        node = node[key]
    if path:
        parent, key = path[-1]
        parent[key] = rng.choice(ODD)
    return json.dumps(root).encode()


def check(format_name, path, out):
    """Import; True when a report came back. Anything but InputError fails the test."""
    shutil.rmtree(out, ignore_errors=True)  # replacing files makes the file system flush: slow
    try:
        report = import_export(format_name, path, out)
    except InputError as error:
        assert str(error)
        summary = out / "summary.json"
        if not summary.exists():
            return False
        counts = json.loads(summary.read_text(encoding="utf-8"))
        ends = counts["kept"] + counts["continued"]
        ends += sum(counts["rejected"].values()) + sum(counts["left_out"].values())
        assert counts["read"] == ends
        return False
    assert report.balanced
    with (out / "dead_letter.jsonl").open(encoding="utf-8") as lines:
        reasons = Counter(json.loads(line)["reason"] for line in lines)
    assert reasons == +report.rejected
    dialogues = list(read_jsonl(out / "dialogues.jsonl"))  # every written record is a valid one
    assert len(dialogues) == report.dialogues > 0
    if report.unit != "record":
        assert sum(len(dialogue.turns) for dialogue in dialogues) == report.kept
    return True


def test_3000_random_mutations(tmp_path):
    rng = random.Random(20240607)
    names = sorted(path.name for path in DATA.iterdir())
    work, out = tmp_path / "work", tmp_path / "out"
    originals = {}
    for name in names:
        shutil.copytree(DATA / name, work / name)
        files = sorted(path for path in (work / name).rglob("*") if path.is_file())
        originals[name] = {path: path.read_bytes() for path in files}
    good = 0
    for number in range(3000):
        name = names[number % len(names)]
        format_name = name.split("-")[0]
        path, data = rng.choice(sorted(originals[name].items()))
        path.unlink()
        path.write_bytes(damage(data, rng))
        try:
            good += check(format_name, work / name, out)
        except Exception as error:
            raise AssertionError(f"mutation {number} of {path}: {path.read_bytes()!r}") from error
        path.unlink()
        path.write_bytes(data)
    assert 1000 < good < 3000  # both ends are reached


def test_300_damaged_archives(tmp_path):
    rng = random.Random(7)
    archive = tmp_path / "x.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        for path in sorted((DATA / "slack").rglob("*.json")):
            file.write(path, path.relative_to(DATA / "slack"))
    data = archive.read_bytes()
    good = 0
    for _ in range(300):
        archive.write_bytes(damage(data, rng))
        good += check("slack", archive, tmp_path / "out")
    assert 0 < good < 300


def test_60_damaged_parquet_files(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    line = (DATA / "jsonl" / "records.jsonl").read_text(encoding="utf-8").splitlines()[0]
    path = tmp_path / "x.parquet"
    pq.write_table(pa.Table.from_pylist([json.loads(line)]), path)
    data, rng = path.read_bytes(), random.Random(3)
    for _ in range(60):
        path.write_bytes(damage(data, rng))
        check("jsonl", path, tmp_path / "out")


def test_10000_lines_of_which_every_third_is_broken(tmp_path):
    rng = random.Random(1)
    lines, expected = [], Counter()
    for number in range(10_000):
        broken = number % 3 == 1
        day = rng.choice(["32/12/21", "00/05/21", "31/02/21", "15/13/21"]) if broken else "28/12/21"
        lines.append(f"{day}, 10:{number % 60:02d} - Bo: text {number}")
        expected["impossible_date" if broken else "kept"] += 1
    path = tmp_path / "WhatsApp Chat with Bo.txt"
    path.write_text("\n".join(["stray", *lines]) + "\n")
    report = import_export("whatsapp", path, tmp_path / "out")
    assert report.kept == expected["kept"]
    assert report.rejected == {
        "impossible_date": expected["impossible_date"],
        "before_first_stamp": 1,
    }
    assert report.read == 10_001 and report.balanced
    (dialogue,) = read_jsonl(tmp_path / "out" / "dialogues.jsonl")
    assert dialogue.turns[-1].text == "text 9999"
