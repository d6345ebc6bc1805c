"""Opens files of questions and of stored outputs, and counts the records that cannot be used."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from p2r.errors import DataError
from p2r.evaluation.benchmark import Benchmark, Raw
from p2r.files.lenient_json import read_stored

EXAMPLES = 5


@dataclass
class Notes:
    """Counts of what was left out or is odd, by reason, with a few examples of each."""

    counts: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=dict)

    def note(self, reason: str, example: str) -> None:
        """Count a reason and keep its first examples."""
        self.counts[reason] += 1
        kept = self.examples.setdefault(reason, [])
        if len(kept) < EXAMPLES:
            kept.append(" ".join(example.split())[:200])

    def example(self, reason: str) -> str:
        """Return the first example of a reason, or "…"."""
        return next(iter(self.examples.get(reason, ())), "…")


def files_in(path: Path) -> list[Path]:
    """Return the JSON files of a folder in order, or the file itself."""
    return sorted([*path.glob("*.jsonl"), *path.glob("*.json")]) if path.is_dir() else [path]


def read_official(benchmark: Benchmark, file: Path) -> Iterator[Raw]:
    """Yield the records of a file in the benchmark's own layout, each with its task."""
    task = benchmark.task_of_file(file)
    if file.suffix == ".parquet":
        yield from ((record, task) for record in read_parquet(file))
        return
    value = read_stored(file)
    unpacked = benchmark.unpack(file, value) if benchmark.unpack else None
    if unpacked is None:
        unpacked = ((record, task) for record in (value if isinstance(value, list) else [value]))
    yield from unpacked


def read_parquet(file: Path) -> Iterator[dict[str, Any]]:
    """Yield the rows of a Parquet file, without its columns of pictures."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(file) as parquet:
            names = [f.name for f in parquet.schema_arrow if not _is_picture(f.type)]
            for batch in parquet.iter_batches(columns=names):
                yield from batch.to_pylist()
    except pa.ArrowInvalid as error:
        raise DataError(f"{file} is not a Parquet file ({error})") from None


def _is_picture(kind: Any) -> bool:
    return any(kind.field(place).name == "bytes" for place in range(kind.num_fields))
