"""Backends: how a node is made, and what the machine needs for it. Everything else is the same for all."""
