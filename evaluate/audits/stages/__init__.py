"""The stages of an audit, a file each: its table of the plan, its cells, the task that does one, and its folder."""
