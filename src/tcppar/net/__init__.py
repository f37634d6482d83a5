"""Sockets, descriptors and waiting: mechanism without decisions."""
