"""Files of records: JSONL, JSON, CSV and Parquet. A million records take seconds, and less memory than their file.

Every reader gives `Records`: mappings of columns to values by place, and the words that say where a place is. Whatever
is wrong with a file is a UserError that names the file and, where there is one, the line.
"""

from __future__ import annotations

import csv
import json
import os
import sys
from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any, Protocol

from groupwise.types import UserError

Record = Mapping[str, Any]
_CHUNK = 4096  # rows that become Python objects at a time


class Records(Protocol):
    """Records by place, and in order."""

    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[Record]: ...
    def __getitem__(self, place: int, /) -> Record: ...

    def where(self, place: int) -> str:
        """Where the record is, in words for the user."""
        ...


class Rows:
    """Records that somebody else holds."""

    def __init__(self, rows: Any, name: str) -> None:
        self._rows, self._name = rows, name

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[Record]:
        if not hasattr(self._rows, "iter"):
            return iter(self._rows)
        # a Dataset of `datasets` is several times as fast by batches of columns
        batches = self._rows.iter(_CHUNK)
        return (dict(zip(batch, row, strict=True)) for batch in batches for row in zip(*batch.values(), strict=True))

    def __getitem__(self, place: int) -> Record:
        record: Record = self._rows[place]
        return record

    def where(self, place: int) -> str:
        return f"{self._name} record {place + 1}"


class Lines:
    """A JSON record on each line that is not blank. Only places are remembered; records are read when asked for."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._starts, self._numbers = array("q"), array("q")
        start = 0
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    self._starts.append(start)
                    self._numbers.append(number)
                start += len(line)
            self._stamp = _stamp(file.fileno())

    def __len__(self) -> int:
        return len(self._starts)

    def __iter__(self) -> Iterator[Record]:
        with self._path.open("rb") as file:
            for place, line in enumerate(line for line in file if line.strip()):
                yield self._parse(line, place)

    def __getitem__(self, place: int) -> Record:
        with self._path.open("rb") as file:
            if _stamp(file.fileno()) != self._stamp:
                raise UserError(f"{self._path}: has changed since the run began to read it")
            file.seek(self._starts[place])
            return self._parse(file.readline(), place)

    def where(self, place: int) -> str:
        return f"{self._path} line {self._numbers[place]}"

    def _parse(self, line: bytes, place: int) -> Record:
        try:
            record: Record = json.loads(line.decode().removeprefix("\ufeff"))
        except UnicodeDecodeError:
            raise UserError(f"{self.where(place)}: is not UTF-8 text") from None
        except ValueError as error:
            raise UserError(f"{self.where(place)}: is not JSON: {error}") from None
        return record


class Table:
    """Rows of an Arrow table; `numbers`: the line on which each ends, where the file has lines."""

    def __init__(self, table: Any, path: Path, numbers: Sequence[int] | None = None) -> None:
        self._table, self._path, self._numbers = table, path, numbers

    def __len__(self) -> int:
        return int(self._table.num_rows)

    def __iter__(self) -> Iterator[Record]:
        for batch in self._table.to_batches(max_chunksize=_CHUNK):
            yield from batch.to_pylist()

    def __getitem__(self, place: int) -> Record:
        record: Record = self._table.slice(place, 1).to_pylist()[0]
        return record

    def where(self, place: int) -> str:
        return f"{self._path} " + (f"line {self._numbers[place]}" if self._numbers else f"row {place + 1}")


class Joined:
    """Several records behind one another."""

    def __init__(self, parts: Sequence[Records]) -> None:
        self._parts = parts
        self._starts = [0, *accumulate(len(part) for part in parts)]

    def __len__(self) -> int:
        return self._starts[-1]

    def __iter__(self) -> Iterator[Record]:
        for part in self._parts:
            yield from part

    def __getitem__(self, place: int) -> Record:
        part, inside = self._find(place)
        return part[inside]

    def where(self, place: int) -> str:
        part, inside = self._find(place)
        return part.where(inside)

    def _find(self, place: int) -> tuple[Records, int]:
        index = bisect_right(self._starts, place) - 1
        return self._parts[index], place - self._starts[index]


def read_file(path: Path) -> Records:
    """The records of one file, by the reader of its extension. Raises UserError for what cannot be read."""
    if path.suffix.lower() not in READERS:
        raise UserError(f"{path}: unknown extension {path.suffix!r}; allowed: {', '.join(READERS)}")
    try:
        return READERS[path.suffix.lower()](path)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise UserError(f"{path}: is not UTF-8 text") from None


def _read_json(path: Path) -> Records:
    """A list of records; data sets also call JSON what has a record on each line."""
    with path.open(encoding="utf-8-sig") as file:
        if (file.readline().lstrip() or file.read(1 << 16).lstrip())[:1] != "[":
            return Lines(path)
        file.seek(0)
        try:
            return Rows(json.load(file), str(path))
        except ValueError as error:
            raise UserError(f"{path}: is not JSON: {error}") from None


def _read_csv(path: Path) -> Records:
    """The first line names the columns. CSV has no types: every value is text."""
    import pyarrow as pa

    batches, rows, numbers = [], [], array("q")
    csv.field_size_limit(sys.maxsize)
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, strict=True)
        try:
            columns = next(reader, [])
            if len(set(columns)) < len(columns):
                raise UserError(f"{path} line 1: two columns are named {max(columns, key=columns.count)!r}")
            schema = pa.schema([(column, pa.string()) for column in columns])
            for row in filter(None, reader):
                if len(row) != len(columns):
                    raise UserError(f"{path} line {reader.line_num}: has {len(row)} values for {len(columns)} columns")
                rows.append(row)
                numbers.append(reader.line_num)
                if len(rows) == _CHUNK:
                    batches.append(_batch(rows, schema))
                    rows = []
        except csv.Error as error:
            raise UserError(f"{path} line {reader.line_num}: is not CSV: {error}") from None
    return Table(pa.Table.from_batches([*batches, _batch(rows, schema)], schema), path, numbers)


def _batch(rows: Sequence[Sequence[str]], schema: Any) -> Any:
    import pyarrow as pa

    columns = zip(*rows, strict=True) if rows else [()] * len(schema)
    return pa.record_batch([pa.array(column, pa.string()) for column in columns], schema=schema)


def _read_parquet(path: Path) -> Records:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            return Table(file.read(), path)
    except pa.ArrowException as error:
        raise UserError(f"{path}: is not Parquet: {str(error).splitlines()[0]}") from None


def _stamp(descriptor: int) -> tuple[int, int]:
    """What changes when a file does."""
    status = os.fstat(descriptor)
    return status.st_size, status.st_mtime_ns


READERS: dict[str, Callable[[Path], Records]] = {
    ".jsonl": Lines,
    ".ndjson": Lines,
    ".json": _read_json,
    ".csv": _read_csv,
    ".parquet": _read_parquet,
}
