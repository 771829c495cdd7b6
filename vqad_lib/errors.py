"""The one error that a user's input can raise: a single line that names the file or key, and the remedy."""


class VqadError(Exception):
    """Something outside the code is wrong: a file, a key, a folder, a download.

    The message is one line: what is wrong, where, and what to do about it. Commands print it without a traceback
    and leave with exit status 1.
    """

    def __init__(self, message: str) -> None:
        super().__init__(printable(message))


def printable(text: str) -> str:
    r"""The text on one line, in characters that every terminal and file takes: a line feed becomes `\n`.

    File names may hold anything but "/" and a zero byte; a byte that is not UTF-8 reaches Python as a lone surrogate,
    which cannot be written to a file.
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
