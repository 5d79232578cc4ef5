"""Tasks done one after the other in this very process: for tests, notebooks and debuggers."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import redirect_stdout

from .task import Done, Task, fail


class Inline:
    """The engine without processes and limits: what hangs, hangs, and Ctrl-C ends the run."""

    def run(self, tasks: Sequence[Task]) -> Iterator[Done]:
        """Do every task in the order in which they come."""
        for task in tasks:
            yield self._carry_out(task)

    def close(self) -> None:
        """Do nothing, as there is no process to let go of."""

    def __enter__(self) -> Inline:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    @staticmethod
    def _carry_out(task: Task) -> Done:
        try:
            with redirect_stdout(sys.stderr):  # stdout belongs to results
                return Done(task, task.call(*task.arguments))
        except KeyboardInterrupt:  # of the user, most likely
            raise
        except BaseException as error:  # a foreign method may raise anything
            return fail(task, error)
