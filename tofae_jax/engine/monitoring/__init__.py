"""What watches a run: metrics file, TensorBoard, figures, recorder, timer, profilers.

Each is a context manager that is closed on every path out, an exception included.
"""
