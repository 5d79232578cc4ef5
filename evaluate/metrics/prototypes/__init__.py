"""How part-prototype networks are judged: what prototypes stand for, by exact parts, and whether they stand for it."""
