"""Adapters that put heliodor's potentials into other people's engines; no science of their own."""
