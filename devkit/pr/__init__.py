"""Pull requests: what each command decides, as pure functions, and the thin layer that carries it out."""
