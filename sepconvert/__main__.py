"""``python -m sepconvert``."""

from sepconvert.cli import main

main()
