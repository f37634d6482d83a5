"""The files of a handler: those that cannot be one, or cannot be read by the user who is to run it."""

from __future__ import annotations

import os
import sys

from tcppar.child.own_path import own


class CannotLoad(Exception):
    """The handler cannot be used; the text says what, where and what was expected."""

    def files(self) -> set[str]:
        """The files in which it went wrong, which may be of modules that now are not there."""
        found, error = set(), self.__cause__
        if isinstance(error, SyntaxError) and error.filename:
            found.add(error.filename)
        trace = error.__traceback__ if error is not None else None
        while trace is not None:
            found.add(trace.tb_frame.f_code.co_filename)
            trace = trace.tb_next
        return found


def script(path: str, target: str) -> str:
    """The file itself. If it is a link, its folder is that of what it leads to, as Python has it for a script.

    Raises:
        CannotLoad: it is not there, cannot be read, or has a name that no module can have.
    """
    try:
        file = os.path.abspath(path)
    except FileNotFoundError:
        raise CannotLoad(f"handler {target}: {path!r}: the server's working directory has been removed") from None
    try:
        with open(file, "rb"):
            pass
    except FileNotFoundError:
        where = "" if os.path.isabs(path) else f" in {_shown_folder(os.getcwd())}"
        raise CannotLoad(f"handler {target}: {path!r}: no such file{where}") from None
    except OSError as error:
        raise CannotLoad(f"handler {target}: {path!r}: {_reader()} cannot read it: {error.strerror}") from None
    while os.path.islink(file):
        file = os.path.normpath(os.path.join(os.path.dirname(file), os.readlink(file)))
    _refuse_name(os.path.basename(file).removesuffix(".py"), file, target)
    return file


def _refuse_name(word: str, file: str, target: str) -> None:
    if word == "__main__":
        package = os.path.basename(os.path.dirname(file))
        raise CannotLoad(
            f"handler {target}: a module cannot be imported as __main__, the name that Python gives to every program: "
            f"write {package}.__main__:{target.rpartition(':')[2]}, with the folder above it as directory, or move the "
            "handler to another file"
        )
    if not word or "." in word:
        raise CannotLoad(
            f"handler {target}: a module cannot have the name {word!r}, because a dot separates a package from its "
            f"modules: give the file another one, such as {(word.strip('.') or 'handler').replace('.', '_')}.py"
        )


def hidden_by(error: BaseException) -> str:
    """What is to be added to the account of an import that has failed: folders of the path in which this user cannot
    look, so that a module that is there is not found."""
    if not isinstance(error, ModuleNotFoundError):
        return ""
    hidden = [entry for entry in sys.path if os.path.lexists(entry) and not os.access(entry, os.R_OK | os.X_OK)]
    hidden += [entry for entry in sys.path if _is_out_of_reach(entry)]
    return f"; {_reader()} cannot look into {', '.join(hidden)}" if hidden else ""


def looked_in(error: BaseException, module_name: str, folder: str) -> str:
    """What is to be added where the handler's own module, or its package, is nowhere."""
    if not isinstance(error, ModuleNotFoundError) or error.name != module_name.partition(".")[0]:
        return ""
    ours = f", and in {_shown_folder(folder)}" if folder else ""
    return f"; looked for where the server's Python searches{ours}"


def _shown_folder(folder: str) -> str:
    return f"{folder} (directory, or where the server was started)"


def _is_out_of_reach(entry: str) -> bool:
    try:
        os.stat(entry)
    except PermissionError:
        return True
    except OSError:
        return False
    return False


def _reader() -> str:
    """Who reads, in words."""
    return f"the user {own('tcppar.own_user').name()}"  # for a message alone
