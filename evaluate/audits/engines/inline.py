"""Tasks done one after the other in this very process: for tests, notebooks and debuggers."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import redirect_stdout

from .task import Done, Task, report_error


class Inline:
    """No processes, no limits: what hangs, hangs, and Ctrl-C ends the run."""

    def run(self, tasks: Sequence[Task]) -> Iterator[Done]:
        """Every task in the given order."""
        for task in tasks:
            yield self._done(task)

    def close(self) -> None:
        """Do nothing, since no process is held."""

    def __enter__(self) -> Inline:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    @staticmethod
    def _done(task: Task) -> Done:
        try:
            with redirect_stdout(sys.stderr):  # stdout belongs to results
                return Done(task, task.call(*task.arguments))
        except (Exception, SystemExit) as error:  # a foreign method may raise anything
            return report_error(task, error)
