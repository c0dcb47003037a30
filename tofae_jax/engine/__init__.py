"""JAX meets files: build, train, evaluate and denoise from a `Config`."""
