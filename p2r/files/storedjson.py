"""Old name of `p2r.files.lenient_json`."""

from p2r.files.lenient_json import LISTS, read_stored  # noqa: F401
