"""The one error that a user's input can raise: a single line that names the file or key, and the remedy."""


class VqadError(Exception):
    """Something outside the code is wrong: a file, a key, a folder, a download.

    The message is one line: what is wrong, where, and what to do about it. Commands print it without a traceback
    and leave with exit status 1.
    """
