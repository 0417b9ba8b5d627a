"""Bonds of fixed length and repartitioned masses."""
