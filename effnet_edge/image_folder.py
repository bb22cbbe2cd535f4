"""The one place that searches folders for images."""

from __future__ import annotations

from pathlib import Path

from effnet_edge.images import is_image_name


def images_below(folder: Path) -> list[Path]:
    """All image files below ``folder``, in order of their paths, but those that are hidden or in a
    hidden folder. They are told by their names' endings; none is opened. May raise OSError."""
    files = (path for path in folder.rglob("*") if is_image_name(path) and path.is_file())
    return sorted(
        path
        for path in files
        if not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )
