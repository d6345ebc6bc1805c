"""Runs notebooks one after the other in one kernel, so that torch is imported only once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import nbformat
from nbclient import NotebookClient

# Let the garbage collector skip the modules that the first notebook has imported.
FREEZE = """
import gc, sys
if "torch" in sys.modules and not gc.get_freeze_count():
    gc.collect()
    gc.freeze()
del gc, sys
"""


class NotebookKernel:
    """A running kernel. Each notebook starts with no names of the one before it."""

    def __init__(self, client: NotebookClient) -> None:
        self.client = client

    def run(self, book: nbformat.NotebookNode, folder: Path) -> nbformat.NotebookNode:
        """Run all cells of a notebook in a folder; raises if a cell fails."""
        folder.mkdir(parents=True, exist_ok=True)
        self.client.nb = book
        fresh = f"%reset -f\nimport os\nos.chdir({str(folder)!r})\ndel os\n{FREEZE}"
        self.client.execute_cell(nbformat.v4.new_code_cell(fresh), -1)
        for index, cell in enumerate(book.cells):
            self.client.execute_cell(cell, index)
        return book


@contextmanager
def notebook_kernel(timeout: float = 600) -> Iterator[NotebookKernel]:
    """Start a kernel and end it afterwards. `timeout`: seconds for one cell."""
    client = NotebookClient(nbformat.v4.new_notebook(), timeout=timeout, kernel_name="python3")
    with client.setup_kernel():
        yield NotebookKernel(client)
