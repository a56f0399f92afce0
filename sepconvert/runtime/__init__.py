"""The only room that imports onnxruntime: sessions, provider proof, capture, interleaved timing."""

import os

# onnxruntime sends reports of its use to its makers and keeps them in the user's cache, unless told before its import.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
