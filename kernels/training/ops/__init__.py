"""What the model and the sharding compute besides matrix products: Paddle's own operators, and ours in C++."""
