"""Contenders that take turns though each is alone in a process, and some in an environment of its own."""
