"""Third-party probes and rows, by entry points; read only when asked."""

from __future__ import annotations

from typing import Any

from nsa_caps.capabilities.records import Note
from nsa_caps.probes.timeout import DEFAULT_TIMEOUT, describe, run_with_timeout

__all__ = ["load_plugins"]


def load_plugins(group: str, notes: list[Note], timeout: float | None = None) -> list[Any]:
    """Return what the entry points of a group name; one that does not load leaves a note instead.

    Args:
        group: the entry-point group.
        notes: where to leave notes.
        timeout: seconds that the import of each is waited for; None: `DEFAULT_TIMEOUT`.
    """
    from importlib_metadata import entry_points  # noqa: PLC0415 costs 30 ms, and few start-ups ask for plugins

    loaded: list[Any] = []
    for entry in entry_points(group=group):
        try:
            loaded.append(run_with_timeout(entry.load, DEFAULT_TIMEOUT if timeout is None else timeout))
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 a plugin may fail in any way, and none is fatal
            source = f"{entry.dist.name if entry.dist else 'unknown distribution'}: {entry.value}"
            notes.append(Note("plugins", source, f"did not load: {describe(error)}"))
    return loaded
