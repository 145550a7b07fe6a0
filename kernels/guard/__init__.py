"""What watches a user's Paddle script from inside: its failures, its progress, and whether its training is sound."""
