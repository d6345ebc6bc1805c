"""Read and write question and trace files in the formats of other projects."""

from p2r.formats.files import (
    BadRecord,
    BadRecordLog,
    OnBad,
    read_cases,
    read_questions,
    write_video_r1,
    write_videop2r,
)

__all__ = [
    "BadRecord",
    "BadRecordLog",
    "OnBad",
    "read_cases",
    "read_questions",
    "write_video_r1",
    "write_videop2r",
]
