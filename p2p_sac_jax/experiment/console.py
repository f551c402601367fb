"""Output on the terminal: log lines, progress, the closing table.

The table goes to standard output, everything else to standard error. Both may be
closed or full: nothing depends on what is printed.
"""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn
from rich.table import Table

from p2p_sac_jax.streams import tolerant


class Reporter:
    """A progress bar on a terminal, a line per tenth of the run elsewhere."""

    def __init__(self, quiet: bool = False) -> None:
        """``quiet`` prints nothing."""
        self._quiet = quiet
        self._console = Console(file=tolerant(sys.stderr), quiet=quiet, soft_wrap=True)
        self._progress = Progress(
            "{task.description}",
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=self._console,
            disable=quiet or not self._console.is_terminal,
        )
        self._task = None
        self._tenth = 0

    def __enter__(self) -> Reporter:
        """Starts the bar."""
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stops the bar."""
        self._progress.stop()

    def log(self, text: str) -> None:
        """Prints one line."""
        self._console.print(text, highlight=False, markup=False)

    def advance(self, step: int, total: int, note: str) -> None:
        """Moves the bar to ``step`` of ``total``, with a ``note`` beside it."""
        if self._progress.disable:
            tenth = 10 * step // total
            if tenth > self._tenth:
                self.log(f"step {step}/{total}  {note}")
            self._tenth = tenth
            return
        if self._task is None:
            self._task = self._progress.add_task("", total=total)
        self._progress.update(self._task, completed=step, description=note)

    def table(self, table: dict[str, Any], title: str, caption: str) -> None:
        """Prints a table on standard output."""
        if self._quiet:
            return
        drawn = Table(
            title=escape(title), caption=escape(caption), caption_justify="left"
        )
        for index, column in enumerate(table["columns"]):
            drawn.add_column(escape(column), justify="left" if index == 0 else "right")
        for row in table["rows"]:
            drawn.add_row(*map(escape, row))
        wide = None if tolerant(sys.stdout).isatty() else 160
        Console(file=tolerant(sys.stdout), width=wide, soft_wrap=False).print(drawn)
