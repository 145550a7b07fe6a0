"""The models: what parameters they have, as plain data, and the layers that compute with them."""
