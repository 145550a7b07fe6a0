"""Ranks: how they are started, watched and ended, for training of our own and for a user's script alike."""
