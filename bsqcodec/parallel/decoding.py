"""Decoding with workers: groups are read ahead, decoded side by side, and come out in their order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator

from bsqcodec.container import Group
from bsqcodec.frames import Frame, TrackPacket, VideoInfo
from bsqcodec.parallel.tasks import DecodedGroup, DecodeTask, Workers
from bsqcodec.partreader import GroupPart

_HELD = 64  # groups and batches of packets that are read ahead at most

Item = GroupPart | list[TrackPacket]


class ParallelDecoder:
    """Hands groups to workers as they are read, at most `workers.size` + 1 at a time.

    check: raises for a group that must not be decoded.
    """

    def __init__(self, workers: Workers, info: VideoInfo, check: Callable[[Group], None]) -> None:
        self._workers, self._info, self._check = workers, info, check
        self._tickets: dict[int, int] = {}  # by the group's first frame

    def ahead(self, items: Iterable[Item]) -> Iterator[Item]:
        """The items in their order; groups are handed out before their turn comes, and errors wait for theirs."""
        source, held = iter(items), deque[Item]()
        failure: Exception | None = None
        ended = False
        while True:
            while not ended and len(self._tickets) <= self._workers.size and len(held) < _HELD:
                try:
                    item = next(source, None)
                    if item is not None:
                        self._submit(item)
                        held.append(item)
                except Exception as error:
                    item, failure = None, error
                ended = item is None
            if held:
                yield held.popleft()
            elif failure is not None:
                raise failure
            else:
                return

    def frames(self, group: Group) -> Iterator[Frame]:
        """The frames of the next group, as `bsqcodec.codec.decode_group`."""
        done: DecodedGroup = self._workers.result(self._tickets.pop(group.first_frame))
        yield from done.frames
        if done.error is not None:
            raise done.error

    def _submit(self, item: Item) -> None:
        if isinstance(item, GroupPart) and isinstance(item.group, Group):
            self._check(item.group)
            task = DecodeTask(item.group, self._info, item.wanted.stop)
            self._tickets[item.group.first_frame] = self._workers.submit(task)
