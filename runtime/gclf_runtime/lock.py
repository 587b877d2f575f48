"""A lock on an open file, which ends with the process, however that ends."""

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None


def lock(descriptor: int) -> bool:
    """Lock an open file until it is closed.

    Returns:
        Whether it is ours; False where another process, or this one through another descriptor,
        holds it. Where the system has no such locks it always is.
    """
    if fcntl is None:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
