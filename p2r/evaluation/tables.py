"""Read one file of questions or outputs: JSON, JSON lines, CSV, TSV, XLSX or Parquet.

The content decides, not only the name: a Parquet file may be called `data.json`. A binary file of
another kind is refused with the name of its kind.
"""

from __future__ import annotations

import codecs
import csv
import gzip
import json
import math
import re
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any

from p2r.errors import DataError
from p2r.files.lenient_json import Fault, read_stored

SUFFIXES = (
    *(".json", ".jsonl", ".json.gz", ".jsonl.gz", ".csv", ".tsv", ".csv.gz", ".tsv.gz"),
    *(".xlsx", ".parquet"),
)
# The first bytes of a file, and the kind of the file.
_KINDS = (
    (b"PAR1", "a Parquet file"),
    (b"PK\x03\x04", "a zip file"),
    (b"\x80\x02", "a pickle file"),
    (b"\x80\x03", "a pickle file"),
    (b"\x80\x04", "a pickle file"),
    (b"\x80\x05", "a pickle file"),
    (b"\x93NUMPY", "a NumPy file"),
    (b"\x89HDF", "an HDF5 file"),
    (b"SQLite format 3", "an SQLite database"),
    (b"ARROW1", "an Arrow file"),
    (b"\xd0\xcf\x11\xe0", "an old Excel file (.xls)"),
    (b"%PDF", "a PDF file"),
    (b"\x89PNG", "a PNG picture"),
    (b"\xff\xd8\xff", "a JPEG picture"),
    (b"GIF8", "a GIF picture"),
    (b"BZh", "a bzip2 file"),
    (b"\xfd7zXZ", "an xz file"),
    (b"\x28\xb5\x2f\xfd", "a Zstandard file"),
    (b"7z\xbc\xaf\x27", "a 7z file"),
    (b"\x7fELF", "a program"),
    (b"\x1aE\xdf\xa3", "a Matroska or WebM video"),
)
_HEAD = 4096
_FORMS = "give JSON, JSON lines, CSV, TSV, XLSX or Parquet"


def read_file(file: Path) -> Any:
    """Return the content of a file: a list of records, or an object.

    Empty cells and NaN are None. Raises `DataError` if the file cannot be read.
    """
    with file.open("rb") as opened:
        head = opened.read(_HEAD)
    kind = kind_of(head)
    zipped = head[:2] == b"\x1f\x8b"
    suffix = Path(file.stem if zipped else file.name).suffix.lower()
    if kind == "a Parquet file" or suffix == ".parquet":
        return _list(read_parquet(file))
    if kind == "a zip file" and (suffix in (".xlsx", ".xlsm") or _is_excel(file)):
        return _list(_read_xlsx(file))
    if kind:
        raise DataError(f"{file} is {kind}: {_FORMS}")
    if head and not head.strip(b"\0") and not file.read_bytes().strip(b"\0"):
        size = file.stat().st_size
        raise DataError(f"{file} has only zero bytes ({size}): copy or download the file again")
    if suffix in (".csv", ".tsv", ".tab"):
        return _list(_read_csv(file))
    if suffix in (".txt", "") and head.lstrip(b"\xef\xbb\xbf \r\n")[:1] not in (b"{", b"["):
        return _list(_read_csv(file))
    if b"\0" in head and not zipped and not _is_text(head):
        raise DataError(f"{file} is a binary file of an unknown kind ({head[:8]!r}): {_FORMS}")
    return read_stored(file)


def _is_excel(file: Path) -> bool:
    """Return whether a zip file is an Excel file under another name."""
    try:
        with zipfile.ZipFile(file) as inside:
            return "xl/workbook.xml" in inside.namelist()
    except (zipfile.BadZipFile, OSError):
        return False


def _is_text(head: bytes) -> bool:
    """Return whether bytes with zeros begin a UTF-16 or UTF-32 text."""
    try:
        text = codecs.getincrementaldecoder(json.detect_encoding(head))().decode(head)
    except UnicodeDecodeError:
        return False
    return not any(character < "\t" for character in text)


def kind_of(head: bytes) -> str:
    """Return the kind of a binary file from its first bytes, or ""."""
    for start, kind in _KINDS:
        if head.startswith(start):
            return kind
    if head[4:8] == b"ftyp":
        return "an MP4 or MOV video"
    if head[257:262] == b"ustar":
        return "a tar file"
    if head[8:10] == b'{"' and int.from_bytes(head[:8], "little") < 1 << 32 and b"\0" in head[:8]:
        return "a safetensors file"
    return ""


def _list(rows: Iterable[Any]) -> list[Any]:
    return [_clean(row) if isinstance(row, dict) else row for row in rows]


def _clean(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row without NaN, which tables have for empty cells."""
    return {
        key: None if isinstance(value, float) and math.isnan(value) else value
        for key, value in row.items()
    }


def read_parquet(file: Path) -> Iterator[dict[str, Any]]:
    """Yield the rows of a Parquet file, without its columns of pictures."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(file) as parquet:
            names = [f.name for f in parquet.schema_arrow if not _is_picture(f.type)]
            for batch in parquet.iter_batches(columns=names):
                yield from batch.to_pylist()
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"{file} is not a Parquet file ({error})") from None


def _is_picture(kind: Any) -> bool:
    return any(kind.field(place).name == "bytes" for place in range(kind.num_fields))


def _read_csv(file: Path) -> Iterator[Any]:
    """Yield the rows of a CSV or TSV file. The first line names the columns."""
    data = file.read_bytes()
    try:
        data = gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data
        text = data.decode(json.detect_encoding(data[:4])).removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        raise DataError(f"{file} is not UTF-8 or UTF-16 text ({error}): save it as UTF-8") from None
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{file} is a damaged gzip file ({error}): copy it again") from None
    text = re.sub(r"\Asep=.\r?\n", "", text)  # Excel names the separator in the first line
    head = text.partition("\n")[0]
    separator = max(",\t;|", key=head.count)
    limit = csv.field_size_limit(max(len(text), 1 << 17))
    try:
        rows = list(csv.reader(StringIO(text, newline=""), delimiter=separator))
    except csv.Error as error:
        raise DataError(f"{file} is not a CSV file ({error})") from None
    finally:
        csv.field_size_limit(limit)
    yield from _rows(file, rows)


def _read_xlsx(file: Path) -> Iterator[Any]:
    """Yield the rows of the first sheet of an Excel file. The first row names the columns."""
    try:
        import openpyxl
    except ImportError:
        raise DataError(
            f"{file} needs openpyxl: pip install -e '.[xlsx]', or save the file as CSV"
        ) from None
    try:
        book = openpyxl.load_workbook(BytesIO(file.read_bytes()), read_only=True, data_only=True)
        rows = [list(row) for row in book.worksheets[0].iter_rows(values_only=True)]
        book.close()
    except Exception as error:
        raise DataError(f"{file} is not an Excel file ({error})") from None
    yield from _rows(file, rows)


def _rows(file: Path, rows: Sequence[Sequence[Any]]) -> Iterator[Any]:
    """Yield rows as records. An empty cell is None. A row that is too long is a `Fault`."""
    rows = [row for row in rows if any(cell not in (None, "") for cell in row)]
    if not rows:
        raise DataError(f"{file} is empty: give a file of stored outputs")
    names = [str(cell or "").strip() for cell in rows[0]]
    for place, row in enumerate(rows[1:]):
        if len(row) > len(names):
            yield Fault(f"row {place + 2} has {len(row)} cells, the first row has {len(names)}")
            continue
        cells = [None if cell == "" else cell for cell in row]
        cells += [None] * (len(names) - len(cells))
        yield {name: cell for name, cell in zip(names, cells, strict=True) if name}
