"""sepconvert: make trained convolutional networks smaller and measurably faster."""

__version__ = "0.1.0"
