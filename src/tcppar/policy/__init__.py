"""Decisions only: plain data in, plain data out. No socket, no process, no clock of its own."""
