"""The user's own code of a network, kept beside its weights, so that a model at rest can be read anywhere."""

from __future__ import annotations

import shutil
from pathlib import Path

from compress.models.factory import Factory
from compress.user_code import is_installed, source_file, with_imports

CODE_FOLDER = "code"


def write_code(factory: Factory, folder: Path) -> Factory:
    """Copy the file that a Python factory names, and the user's files that it imports, into `folder`.

    What an installed distribution holds is not copied. Returns the factory as it is to be written down: of files only
    their place in the copy.
    """
    if factory.source != "python":
        return factory
    place, _, function = factory.name.rpartition(":")
    file = source_file(factory.name, factory.code)
    is_file = place.endswith(".py")
    if file is None or (is_installed(file) and not is_file):
        return Factory(factory.source, factory.name, factory.arguments)
    copies = with_imports(file)
    for name, path in copies.items():
        target = folder / CODE_FOLDER / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    own = next(name for name, path in copies.items() if path == file)
    return Factory(factory.source, f"{own if is_file else place}:{function}", factory.arguments, Path(CODE_FOLDER))
