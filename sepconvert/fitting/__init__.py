"""Factors fitted to the data that each layer of the network really sees."""
