"""Trying a server for real: the server itself, clients by the thousand, faults on command, and what is left of all."""
