"""Finding the commit that made something bad, without touching the checkout."""
