"""Pictures that are no files, written once as PNG under a name made from their content."""

import hashlib
import os
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from PIL import Image

from gclf_runtime.cpus import available_cpus
from gclf_trainer.errors import DatasetError
from gclf_trainer.pixel_file import remove_dead

Progress = Callable[[int, int], None]


def write_pictures(
    name: str,
    count: int,
    picture: Callable[[int], Image.Image],
    keep: Path,
    *,
    on_progress: Progress = lambda done, total: None,
) -> tuple[Path, ...]:
    """Write pictures as PNG files, unless the very same are there already.

    Args:
        name: Starts the folder's name.
        count: How many.
        picture: Gives one by its index, from several threads.
        keep: The folder is made below it.
        on_progress: Called with (files done, files in all) as they are written.

    Returns:
        Their files, in order.

    Raises:
        DatasetError: They cannot be written.
    """

    def digest_one(index: int) -> bytes:
        each = picture(index)
        head = f"{each.mode} {each.size} ".encode()
        return hashlib.sha256(head + each.tobytes()).digest()

    with ThreadPoolExecutor(available_cpus()) as pool:
        digests = pool.map(digest_one, range(count), chunksize=64)
        digest = hashlib.sha256(b"".join(digests))
        folder = keep / f"{name}-{digest.hexdigest()[:16]}"
        paths = tuple(folder / f"{index:07}.png" for index in range(count))
        if folder.is_dir():
            return paths
        remove_dead(keep, f"*-{'[0-9a-f]' * 16}.*.partial")
        partial = folder.with_name(f"{folder.name}.{os.getpid()}.partial")

        def write(index: int) -> None:
            # The fastest level: these are read once, then the cache of pixels is.
            picture(index).save(partial / paths[index].name, compress_level=1)

        try:
            partial.mkdir(parents=True)
            for done, _ in enumerate(pool.map(write, range(count), chunksize=64), 1):
                on_progress(done, count)
            os.sync()  # before the name that promises whole files; fsync took 5 ms for each
            partial.rename(folder)
        except OSError as error:
            if folder.is_dir():  # another process was faster, and its files are the same
                return paths
            raise DatasetError(
                f"the pictures of {name} cannot be written to {keep} ({error.strerror}). "
                "Free space, or name another --cache"
            ) from error
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return paths
