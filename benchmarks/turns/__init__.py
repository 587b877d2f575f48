"""Contenders that take turns, each alone in a process, some in an environment of its own."""
