"""The device side: what runs on the device, inside an environment's own Python (3.9 and later)."""
