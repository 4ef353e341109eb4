"""The base of every error that this package raises on purpose, and the tree of them.

    NsaCapsError
    ├── RequestError (ValueError)               the request asks for what cannot be
    │   └── UnknownRowError                     no row has this name
    ├── UnknownEngineError (ValueError)         no engine of this name has switches here
    ├── SnapshotError (ValueError)              a document is no snapshot
    ├── NoUsableLayoutError (RuntimeError)      every allowed row is out; carries every reason
    ├── KernelLoadError (RuntimeError)          a row's kernels could not be imported
    ├── KernelArgumentError (ValueError)        an argument of a kernel does not fit; nothing was launched
    ├── PageFormatError (ValueError)            a page format cannot exist
    ├── PageTableError (ValueError)             an engine's metadata gives no such page table
    ├── AgreementError (RuntimeError)           the ranks of a job could not agree
    ├── MissingRanksError (TimeoutError)        ranks did not answer in time
    ├── LayoutMismatchError (RuntimeError)      two sides mean different things by the same bytes
    └── HandshakeError (ValueError)             what a peer sent is no handshake

Each carries what was found as data, and derives from the builtin that its callers catch. Errors of the command, of a
shim or of the test kit derive from NsaCapsError too.
"""

from __future__ import annotations

from typing import Any

__all__ = ["NsaCapsError", "printable"]


def printable(text: str) -> str:
    """Return the text with what would steer a terminal, or cannot be encoded, spelled out: variables hold anything."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


class NsaCapsError(Exception):
    """Something is wrong with what was asked or found; subclasses carry what as data.

    All of them pickle, as engines send errors from their workers, with everything that they carry.
    """

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle by text and attributes: the arguments that an error was made of are not kept."""
        return (_remade, (type(self), self.args, dict(self.__dict__)))

    def __str__(self) -> str:
        """Return the message as it may go to a terminal or a log: it quotes what strangers wrote."""
        return "\n".join(map(printable, super().__str__().split("\n")))


def _remade(kind: type[NsaCapsError], args: tuple[Any, ...], state: dict[str, Any]) -> NsaCapsError:
    error = kind.__new__(kind, *args)
    error.args = args
    error.__dict__.update(state)
    return error
