"""The gate: whatever is read from a file is opened here, by one function for each kind of file.

What a function of this package gives back is of a bounded size and of the kinds that this program writes. Nothing that
a file says is believed before that. Raises Refusal with one sentence for everything else.
"""
