"""Show and clean the records of what devkit ran."""
