"""See and change settings."""
