"""The contract of explainers, with a stranger's explainer in a worker process, under limits."""

from __future__ import annotations

from collections.abc import Iterator

from ..explaining.contract import CHECKS, ContractVerdict, check_on
from ..explaining.contract_networks import NETWORKS
from ..explaining.methods import parse_method, stranger_of
from .engines.task import Engine, Task
from .strangers import parse_methods_apart


def check_apart(text: str, engine: Engine) -> Iterator[ContractVerdict]:
    """Put a stranger's explainer through the table as `check_explainer` does; nothing of it is imported here.

    If its process dies or runs for too long, that is the last verdict.

    Raises WrongUsage and Refusal as `parse_method` does.
    """
    parse_methods_apart([text], "float32", engine)
    for network in NETWORKS:
        (done,) = engine.run([Task(text, check_stranger_on, (text, network), stranger=stranger_of(text))])
        if done.error is not None:
            yield ContractVerdict(network, CHECKS[0].name, "FAILED", f"{text}: {done.error}")
            return
        yield from done.value


def check_stranger_on(text: str, network: str) -> list[ContractVerdict]:
    """Put a stranger's explainer through the table on one network, in a worker."""
    method = parse_method(text)
    return list(check_on(method.explainer, network, method.class_sensitive))
