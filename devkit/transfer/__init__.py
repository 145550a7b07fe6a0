"""Files between machines: over ssh with a receiver that devkit brings along, and over HTTP with a page for people."""
