"""The two scopes of inference, which are never mixed, and the words for what can be said in each."""

from __future__ import annotations

from collections.abc import Mapping

THESE = "these models"  # of what is said of the very models that were scored, for other rows
ANEW = "trained anew"  # of what is said of other seeds of the same architectures, for other rows
LEAST_SEEDS = 3  # of each architecture; with fewer, nothing is said of models trained anew
COUNTS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


def count_word(count: int) -> str:
    """A count as a word, up to ten; in digits above.

    >>> count_word(2), count_word(12)
    ('two', '12')
    """
    return COUNTS[count] if count < len(COUNTS) else str(count)


def models_text(seeds: Mapping[str, int]) -> str:
    """The models of a board in words, from the number of seeds of each architecture.

    >>> models_text({"flowernet": 2}), models_text({"flowernet": 2, "flowervit": 1})
    ('two models of flowernet', 'all architectures (flowernet, flowervit)')
    """
    if len(seeds) > 1:
        return f"all architectures ({', '.join(seeds)})"
    return "; ".join(f"{count_word(n)} model{'s' * (n != 1)} of {name}" for name, n in seeds.items())


def anew_sentence(seeds: Mapping[str, int], apart: int, pairs: int) -> str:
    """What can be said of models trained anew, from the seeds of each architecture and how many pairs differ.

    >>> anew_sentence({"flowernet": 2}, 0, 0)
    'For models trained anew nothing can be said: that takes three seeds of an architecture; flowernet has two.'
    """
    have = " and ".join(f"{name} has {count_word(count)}" for name, count in seeds.items())
    if min(seeds.values(), default=0) < LEAST_SEEDS:
        return (
            f"For models trained anew nothing can be said: that takes {count_word(LEAST_SEEDS)} seeds of an "
            f"architecture; {have}."
        )
    return f"For models trained anew, {apart} of {pairs} pairs of methods can be told apart ({have})."
