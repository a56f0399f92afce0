"""Keras runs on torch here; nothing else of the tests imports it."""

import os

os.environ.setdefault("KERAS_BACKEND", "torch")
