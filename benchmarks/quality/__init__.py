"""Parts of `bench_quality.py`: held-out events, methods that tell signal from noise, numbers, tables and figures."""
