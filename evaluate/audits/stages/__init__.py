"""The stages of an audit, a file for each: its table of the plan, its cells, the function that computes one."""
