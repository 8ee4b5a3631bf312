"""Convolution and correlation: SciPy's interface in register tiles, passes and transforms."""
