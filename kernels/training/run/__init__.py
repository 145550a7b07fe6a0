"""A run on one rank: the loop, its checkpoints, its memory and what it tells of itself."""
