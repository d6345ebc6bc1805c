"""Old name of `p2r.files.lenient_json`."""

from p2r.files.lenient_json import Fault, NotJson  # noqa: F401
