"""Save uncommitted work, single files too, and restore it."""
