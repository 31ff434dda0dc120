"""What jobs wrote, on its way out: byte for byte to a pipe or a file, made harmless on a terminal, or as JSON."""

import base64
import codecs
import sys
from collections.abc import Iterator

from jobrunner.cli import printing
from jobrunner.direct_client import DirectClient
from jobrunner.models import Json, LogPiece
from jobrunner.text import visible
from jobrunner.times import iso


def pieces(client: DirectClient, job: int) -> Iterator[LogPiece]:
    """All that the job has written so far, in order."""
    after = 0
    while page := client.log(job, after):
        yield from page
        after = page[-1].id


def raw(piece: LogPiece) -> None:
    """The bytes themselves, each stream to its own; harmless where that is a terminal."""
    stream = sys.stdout if piece.stream == "stdout" else sys.stderr
    if stream.isatty():
        text = cut_mark(piece) if piece.cut else piece.data.decode("utf-8", "backslashreplace")
        stream.write(visible(text, lines=True))
        stream.flush()
        return
    stream.buffer.write(cut_mark(piece).encode() if piece.cut else piece.data)
    stream.buffer.flush()


def cut_mark(piece: LogPiece) -> str:
    """The line that stands where output was left out."""
    return f"\n[{piece.cut} bytes cut here]\n"


class Merged:
    """Both streams to the standard output, as they came."""

    def __init__(self) -> None:
        self._is_terminal = sys.stdout.isatty()
        new = codecs.getincrementaldecoder("utf-8")
        self._decoders = {name: new("backslashreplace") for name in ("stdout", "stderr")}

    def __call__(self, piece: LogPiece) -> None:
        """Write a piece."""
        if self._is_terminal:
            text = cut_mark(piece) if piece.cut else self._decoders[piece.stream].decode(piece.data)
            sys.stdout.write(visible(text, lines=True))
            sys.stdout.flush()
        else:
            sys.stdout.buffer.write(cut_mark(piece).encode() if piece.cut else piece.data)
            sys.stdout.buffer.flush()


def as_json(piece: LogPiece) -> None:
    """An object a piece; bytes that are not UTF-8 as base64."""
    facts: dict[str, Json] = {"claim": piece.claim, "at": iso(piece.at), "stream": piece.stream}
    if piece.cut:
        facts["cut"] = piece.cut
    else:
        try:
            facts["text"] = piece.data.decode()
        except UnicodeDecodeError:
            facts["base64"] = base64.b64encode(piece.data).decode()
    printing.write_json(facts)
