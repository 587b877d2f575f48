"""A worker process: answers chunks on standard input until they end.

A message is a line of JSON, then as many raw bytes as it says. Nothing is pickled.
"""

import json
import os
import signal
import sys
import warnings
from typing import Any, BinaryIO

from gclf_runtime.errors import GclfError, ImageError
from gclf_runtime.items import Item
from gclf_runtime.pipeline import Answer, SessionRunner
from gclf_runtime.session import OnnxSession, import_onnxruntime
from gclf_runtime.spec import ModelSpec


def write_message(file: BinaryIO, record: Any, data: bytes) -> None:
    """Write a record, as JSON, and the bytes that go with it."""
    file.write(json.dumps([record, len(data)]).encode() + b"\n")
    file.write(data)
    file.flush()


def read_message(file: BinaryIO) -> tuple[Any, bytes]:
    """Read one message: its record, its bytes; ValueError at the end of the stream."""
    record, size = json.loads(file.readline())
    data = file.read(size)
    if len(data) != size:
        raise ValueError("the stream ended within a message")
    return record, data


def serve(requests: BinaryIO, replies: BinaryIO) -> None:
    """Answer chunks until the requests end: what runs in a worker process."""
    import_onnxruntime()  # while the parent is still starting too
    try:
        opening, _ = read_message(requests)
    except ValueError:
        return  # it was not needed
    spec = ModelSpec.from_json(opening.pop("spec"))
    model, sha256 = opening.pop("model"), opening.pop("sha256")
    session = OnnxSession(model, device="cpu", spec=spec, sha256=sha256)
    runner = SessionRunner(session, **opening)
    write_message(replies, "ready", b"")
    while True:
        try:
            record, data = read_message(requests)
        except ValueError:
            return
        items, start = list[Item](), 0
        for name, size in zip(record["names"], record["sizes"], strict=True):
            items.append(Item(name, None if size is None else data[start : start + size]))
            start += size or 0
        try:
            outcomes = runner.run(items)
        except GclfError as error:
            write_message(replies, {"failure": str(error)}, b"")
            continue
        except MemoryError:
            remedy = "Try --processes 0 --threads 1 --batch-size 1"
            write_message(replies, {"failure": f"out of memory in a worker. {remedy}"}, b"")
            continue
        except Exception as error:  # a fault of ours, not the picture's
            write_message(replies, {"failure": f"{type(error).__name__}: {error}"}, b"")
            continue
        answers = [outcome for outcome in outcomes if isinstance(outcome, Answer)]
        parts = [a.probabilities_k for a in answers] + [a.logits_k for a in answers]
        pixels = [a.pixels_hwc for a in answers if a.pixels_hwc is not None]
        errors = [
            {"kind": o.kind, "reason": o.reason} if isinstance(o, ImageError) else None
            for o in outcomes
        ]
        blob = b"".join(part.tobytes() for part in (*parts, *pixels))
        write_message(replies, {"errors": errors, "has_pixels": bool(pixels)}, blob)


def main() -> None:
    """Serve on standard input and output; a signal for the terminal's group is the parent's."""
    warnings.simplefilter("ignore")
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # What a library prints must not come between the replies.
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    serve(sys.stdin.buffer, replies)


if __name__ == "__main__":
    main()
