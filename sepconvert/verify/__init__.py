"""Proof that a rewrite is what it claims: the exact oracle, fidelity of outputs, independent counts."""
