"""How a model and a step are cut over ranks: the mesh, its collectives, and the parallelisms over them."""
