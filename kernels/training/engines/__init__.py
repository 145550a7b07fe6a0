"""What steps a model: our own sharding, and Paddle's ``parallelize``."""
