"""Let Gradio start without work that the case browser does not need.

Library: Gradio 6.31.
Reason: at every import Gradio parses its own source to write type stubs beside it, and imports the
library `mcp` if it is installed. Both serve developers of Gradio apps. Together they take about
half of the CPU time of the import.
Can go when: Gradio imports `mcp` only for an MCP server, and ships its type stubs.
"""

from __future__ import annotations

import os
import sys
from typing import Any

from p2r.patches.on_import import ImportHook, after_import, is_hooked


def apply() -> None:
    """Leave out the type stubs, and `mcp` unless the environment asks for an MCP server."""
    after_import("gradio.component_meta", leave_out_stubs)
    wanted = os.environ.get("GRADIO_MCP_SERVER", "").lower() == "true"
    imported = {"mcp", "gradio.mcp"} & sys.modules.keys()
    if not (wanted or imported or is_hooked("gradio.mcp")):
        sys.meta_path.insert(0, ImportHook("gradio.mcp", hide_mcp, show_mcp))


def leave_out_stubs(module: Any) -> None:
    """Replace the function of `gradio.component_meta` that writes the stub of a component."""
    module.create_or_modify_pyi = lambda component_class, class_name, events: None


def hide_mcp(_: Any) -> None:
    """Let `import mcp` fail, which Gradio expects where it is not installed."""
    sys.modules["mcp"] = None  # type: ignore[assignment]


def show_mcp(_: Any) -> None:
    """Let `import mcp` work again."""
    del sys.modules["mcp"]
