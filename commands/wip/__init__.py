"""Put uncommitted work aside, single files too, and take it back."""
