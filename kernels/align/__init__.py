"""Where two models part: the first layer whose output or gradient differs, and whether rounding explains it."""
