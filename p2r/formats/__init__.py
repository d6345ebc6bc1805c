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
from p2r.formats.identity import content_of, tell_apart
from p2r.formats.moving import settle_data_type

__all__ = [
    "BadRecord",
    "BadRecordLog",
    "OnBad",
    "content_of",
    "read_cases",
    "read_questions",
    "settle_data_type",
    "tell_apart",
    "write_video_r1",
    "write_videop2r",
]
