"""Encoding with workers, to the bytes that one process would write.

How the groups are found: a group's bytes hang on its frames and on where it begins. Where it ends, and so where the
next one begins, is known only when it is coded, since the encoder ends groups at cuts. So the frames are split on a
guess, at every `keyint`-th frame and where the picture changes abruptly, and the pieces are coded side by side. The
results are taken in order. A piece counts if it begins where the group before it really ended; from the first border
that differs on, the pieces are thrown away and the frames split anew. One number is carried from group to group: the
cost of the last prediction, against which the second frame of the next group is held to tell a cut. A piece is coded
as if there were none, and says at which number its second frame would have been a cut; if the real one is as low, the
piece is coded again with it. So guesses cost time when they are wrong, and never change a byte.

What is held in memory: the frames of the pieces being coded and of one more, at most `workers.size` + 2 groups.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bsqcodec.codec import EncodedGroup
from bsqcodec.codec.settings import CUT_RATIO, LOOKAHEAD
from bsqcodec.frames import Frame, Track, TrackPacket, VideoInfo
from bsqcodec.parallel.tasks import CodedGroup, EncodeTask, Workers
from bsqcodec.presets import MEDIUM, Search
from bsqcodec.rate.survey import Changes
from bsqcodec.runs import Source

_AHEAD = 1  # pieces that wait for a worker


@dataclass(frozen=True)
class _Piece:
    """A task under way: its frames, by number."""

    start: int
    stop: int
    ticket: int


class ParallelEncoder:
    """A source that reads ahead and the encoder of its frames in one, for `bsqcodec.runs.EncodeRun`.

    Iterating gives the items of `video` in their order; `push`, called with each frame as it comes, returns the groups
    that `GroupEncoder.push` would. cuts: the model's encoder ends groups at cuts; search: what may be spent.
    """

    def __init__(
        self, video: Source, workers: Workers, *, crf: float, keyint: int, cuts: bool, search: Search = MEDIUM
    ) -> None:
        self._video, self._workers, self._crf, self._keyint = video, workers, crf, keyint
        self._search = search
        self._source = iter(video)
        self._items: deque[Frame | TrackPacket] = deque()
        self._frames: deque[Frame] = deque()  # read, and in no group that is known
        self._pieces: deque[_Piece] = deque()
        self._planned = 0  # first frame that is in no piece
        self._read = 0  # frames read
        self._ended = False
        self._failure: Exception | None = None
        self._changes = Changes() if cuts else None
        self._guesses: set[int] = set()  # frames that look like the first behind a cut
        self._before: float | None = None
        self._head: EncodedGroup | None = None
        self._closes = 0  # frame whose push returns the head
        self._bytes_finished = 0
        self._open_bits = 0.0
        self.first_frame = self.frames_done = 0
        self.quality = 0  # of interest to rate control, which needs one process

    @property
    def info(self) -> VideoInfo:
        """What is known about the video."""
        return self._video.info

    @property
    def tracks(self) -> Sequence[Track]:
        """Its other tracks."""
        return self._video.tracks

    @property
    def bytes_done(self) -> int:
        """Bytes of all groups so far, as `GroupEncoder.bytes_done`."""
        return self._bytes_finished + round(self._open_bits / 8)

    def __iter__(self) -> Iterator[Frame | TrackPacket]:
        while True:
            self._fill()
            if self._items:
                yield self._items.popleft()
            elif self._failure is not None:  # what was read before it has been coded, as by one process
                raise self._failure
            else:
                return

    def push(self, frame: Frame, ahead: int = LOOKAHEAD) -> list[EncodedGroup]:
        """The groups that are finished by the next frame; this encoder knows itself what follows it."""
        number = self.frames_done
        self.frames_done += 1
        self._settle()
        done = [self._finish()] if number == self._closes else []
        if self.frames_done > self.first_frame:
            self._open_bits += self._settle().frames[number - self.first_frame].bits
        return done

    def flush(self) -> list[EncodedGroup]:
        """The last group."""
        return [] if self.frames_done == self.first_frame else [self._finish()]

    def _finish(self) -> EncodedGroup:
        encoded, self._head = self._settle(), None
        self.first_frame += len(encoded.frames)
        self._bytes_finished += len(encoded.group.motion) + len(encoded.group.tokens)
        self._open_bits = 0.0
        return encoded

    def _settle(self) -> EncodedGroup:
        """The group that begins at `first_frame`, the head."""
        while self._head is None:
            if not self._pieces:
                self._fill()
            piece = self._pieces.popleft()
            coded: CodedGroup = self._workers.result(piece.ticket)
            if self._second_is_cut(coded):
                self._plan_again(piece.start)
                self._submit(piece.start, piece.start + 2, self._before)
            elif not coded.closed and not (self._ended and piece.stop == self._read):
                self._guesses.discard(piece.stop - 1)  # no cut after all, so the group goes on
                self._plan_again(piece.start)
            else:
                self._accept(coded, piece)
        return self._head

    def _second_is_cut(self, coded: CodedGroup) -> bool:
        """Whether the real cost before the group would have ended it after its first frame."""
        if self._before is None or coded.second_cost is None or len(coded.encoded.frames) == 1:
            return False
        return coded.second_cost >= CUT_RATIO * self._before

    def _accept(self, coded: CodedGroup, piece: _Piece) -> None:
        count = len(coded.encoded.frames)
        end = piece.start + count
        self._head = coded.encoded
        self._closes = end - 1 if count == self._keyint else end
        self._before = self._before if coded.last_cost is None else coded.last_cost
        for _ in range(count):
            self._frames.popleft()
        if (self._pieces[0].start if self._pieces else self._planned) != end:
            self._plan_again(end)

    def _plan_again(self, start: int) -> None:
        """Split the frames from `start` on anew."""
        for piece in self._pieces:
            self._workers.drop(piece.ticket)
        self._pieces.clear()
        self._planned = start

    def _fill(self) -> None:
        """Have pieces coded, and read what is needed for them."""
        while len(self._pieces) < self._workers.size + _AHEAD:
            if not self._submit_next() and not self._read_one():
                return

    def _read_one(self) -> bool:
        """Read the next item; False behind the end."""
        if self._ended:
            return False
        try:
            item = next(self._source, None)
        except Exception as error:
            item, self._failure = None, error
        if item is None:
            self._ended = True
            return True
        self._items.append(item)
        if isinstance(item, Frame):
            if self._changes is not None and self._changes.is_cut(item):
                self._guesses.add(self._read)
            self._frames.append(item)
            self._read += 1
        return True

    def _submit_next(self) -> bool:
        """Submit the next piece if all of its frames are there: to a cut that was guessed, full, or the last one.

        What follows its first frame must be known too, for that one's quality.
        """
        start, full = self._planned, self._planned + self._keyint
        if not self._ended and self._read <= start + LOOKAHEAD:
            return False
        self._guesses = {guess for guess in self._guesses if guess > self.first_frame}
        cut = min((guess for guess in self._guesses if start < guess < full), default=None)
        if cut is not None:
            self._submit(start, cut + 1)  # with the first frame behind, which tells whether it is a cut
            self._planned = cut
        elif self._read >= full or (self._ended and self._read > start):
            self._submit(start, min(full, self._read))
        else:
            return False
        return True

    def _submit(self, start: int, stop: int, before: float | None = None) -> None:
        base = self._read - len(self._frames)
        frames = [self._frames[number - base] for number in range(start, stop)]
        ahead = min(LOOKAHEAD, self._read - start - 1)
        task = EncodeTask(self.info, self._crf, self._keyint, start, frames, ahead, self._search, before)
        self._pieces.append(_Piece(start, stop, self._workers.submit(task)))
        self._planned = stop
