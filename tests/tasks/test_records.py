"""Files of records: what was written is read, in its order and by its place, and mistakes are told with their line."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from groupwise.tasks.records import Joined, Records, Rows, read_file
from groupwise.types import UserError

values = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\x00"), max_size=8)
tables = st.lists(st.fixed_dictionaries({"a": values, "b": values}), max_size=6)


def jsonl(path: Path, records: list[Any]) -> Path:
    path.write_text("".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records), encoding="utf-8")
    return path


def csv(path: Path, records: list[Any]) -> Path:
    rows = [",".join('"' + text.replace('"', '""') + '"' for text in (record["a"], record["b"])) for record in records]
    path.write_text("\n".join(["a,b", *rows]), encoding="utf-8", newline="")
    return path


def parquet(path: Path, records: list[Any]) -> Path:
    schema = pa.schema([("a", pa.string()), ("b", pa.string())])
    pq.write_table(pa.Table.from_pylist(records, schema), path, row_group_size=2)
    return path


def array(path: Path, records: list[Any]) -> Path:
    path.write_text("\n" + json.dumps(records, indent=1), encoding="utf-8")
    return path


WRITERS = {"a.jsonl": jsonl, "b.ndjson": jsonl, "c.json": jsonl, "d.json": array, "e.csv": csv, "f.PARQUET": parquet}


@pytest.mark.parametrize("name", WRITERS)
@given(records=tables)
def test_what_was_written_is_read(tmp_path_factory: pytest.TempPathFactory, name: str, records: list[Any]) -> None:
    read = read_file(WRITERS[name](tmp_path_factory.getbasetemp() / name, records))
    assert len(read) == len(records)
    assert list(read) == records
    assert [read[place] for place in range(len(read))] == records


@given(st.lists(tables, max_size=4))
def test_joined_records_are_one_after_another(parts: list[list[Any]]) -> None:
    joined = Joined([Rows(part, f"part{i}") for i, part in enumerate(parts)])
    flat = [record for part in parts for record in part]
    assert len(joined) == len(flat)
    assert list(joined) == [joined[place] for place in range(len(flat))] == flat
    places = [f"part{i} record {k + 1}" for i, part in enumerate(parts) for k in range(len(part))]
    assert [joined.where(place) for place in range(len(flat))] == places


def lines(records: Records) -> list[str]:
    return [records.where(place).rpartition("/")[2] for place in range(len(records))]


def test_places_are_named_as_an_editor_counts_them(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes('\ufeff{"a": 1} \r\n\n \n{"a": "é"}\r\n{"a": 3}'.encode())
    read = read_file(path)
    assert lines(read) == ["a.jsonl line 1", "a.jsonl line 4", "a.jsonl line 5"]
    assert [read[place] for place in (2, 0, 1)] == [{"a": 3}, {"a": 1}, {"a": "é"}]
    path = tmp_path / "a.csv"
    path.write_text('\ufeffa,b\n1,"x\ny"\n\n2,3\n')
    read = read_file(path)
    assert list(read) == [{"a": "1", "b": "x\ny"}, {"a": "2", "b": "3"}]
    assert lines(read) == ["a.csv line 3", "a.csv line 5"]
    assert lines(read_file(parquet(tmp_path / "a.parquet", [{"a": "1"}] * 2))) == ["a.parquet row 1", "a.parquet row 2"]


def test_csv_values_stay_text(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("a,b,c,d\n007,1e5,,NA\n")
    assert list(read_file(path)) == [{"a": "007", "b": "1e5", "c": "", "d": "NA"}]


def test_a_file_that_changes_is_told(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "a.jsonl", [{"a": 1}, {"a": 2}])
    read = read_file(path)
    os.utime(path, ns=(0, 0))
    with pytest.raises(UserError, match=r"a.jsonl: has changed since the run began to read it"):
        read[1]


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("a.txt", "", "unknown extension '.txt'; allowed: .jsonl, .ndjson, .json, .csv, .parquet"),
        ("a.csv", "a,b\n1,2\n1,2,3\n", "line 3: has 3 values for 2 columns"),
        ("a.csv", 'a,b\n1,"2\n', "line 2: is not CSV: unexpected end of data"),
        ("a.csv", "a,b,a\n1,2,3\n", "line 1: two columns are named 'a'"),
        ("a.csv", b"a,b\n1,\xff\n", "is not UTF-8 text"),
        ("a.json", '[{"a": 1},\n {"a": }]', "is not JSON: Expecting value: line 2 column 8 (char 18)"),
        ("a.json", b"\xff[]", "is not UTF-8 text"),
        ("a.parquet", "PAR1", "is not Parquet: "),
    ],
)
def test_what_is_wrong_with_a_file(tmp_path: Path, name: str, text: str | bytes, says: str) -> None:
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UserError) as caught:
        list(read_file(path))
    assert str(caught.value).startswith(f"{path}")
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_cannot_be_opened(tmp_path: Path) -> None:
    (tmp_path / "folder.jsonl").mkdir()
    with pytest.raises(UserError, match=r"folder.jsonl: Is a directory"):
        read_file(tmp_path / "folder.jsonl")
