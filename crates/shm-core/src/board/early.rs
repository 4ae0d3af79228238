//! Writing the next round's payload while this round's is read, or made.
//!
//! Between distant cores reading and writing take little longer together than one of them alone (`copy.rs`); between near ones what
//! has just been made is in the nearest cache, and will not be later. What is written so belongs to
//! a round that has not begun: it goes where the payload of that round may go by then (Invariant 2 of the board), and
//! nobody looks there before the round is shown.

use super::{Board, Nonsense, SLOT_LIMIT, Seat};
use crate::sync::Ordering;

/// Payload of a round that is put behind the slots before the round begins.
#[derive(Default)]
pub(super) struct Early {
    round: u64,
    length: usize,
    written: usize,
}

impl Board<'_> {
    /// [`Board::read`], while some of `next` is written, which has to be what this participant shows in the next round: as
    /// much of it as is read, where that saves time.
    ///
    /// # Errors
    ///
    /// As [`Board::read`].
    pub fn read_and_write(
        &mut self,
        other: usize,
        offset: usize,
        buffer: &mut [u8],
        next: &[u8],
    ) -> Result<(), Nonsense> {
        let both = if self.streams(next.len()) && self.may_write_early(next.len()) {
            buffer.len().min(next.len() - self.early.written)
        } else {
            0
        };
        let Seat { place, buffer: theirs } = self.others[other].seat;
        let extent = place.cell(self.round).extent.load(Ordering::Relaxed);
        let (length, start) = (extent as u32 as usize, (extent >> 32) as usize + offset);
        let is_behind = length > SLOT_LIMIT && offset + both <= length && start + both <= theirs.len();
        if both == 0 || !is_behind {
            return self.read(other, offset, buffer);
        }
        self.count_long_read(other);
        let (buffer, rest) = buffer.split_at_mut(both);
        let written = self.early.written;
        let mine = (self.mine.buffer, self.next + written);
        theirs.copy_out_and_in(start, buffer, mine, &next[written..written + both]);
        self.early.written += both;
        if rest.is_empty() { Ok(()) } else { self.read(other, offset + both, rest) }
    }

    /// Writes `bytes`, which lie at `offset` of what this participant shows in the next round, `length` bytes in all: where that
    /// saves time, where there is room by now, and if all before them has been written so. What has not, [`Board::show`] writes.
    pub fn write_ahead(&mut self, length: usize, offset: usize, bytes: &[u8]) {
        if self.may_write_ahead(length) && offset == self.early.written && bytes.len() <= length - offset {
            self.mine.buffer.copy_in(self.next + offset, bytes);
            self.early.written += bytes.len();
        }
    }

    /// Whether [`Board::write_ahead`] would write some of a payload of `length` bytes by now.
    pub fn may_write_ahead(&mut self, length: usize) -> bool {
        !self.streams(length) && self.may_write_early(length)
    }

    /// Whether payload of `length` bytes of the next round may be written now.
    fn may_write_early(&mut self, length: usize) -> bool {
        let round = self.round + 1;
        if (self.early.round, self.early.length) == (round, length) {
            return true;
        }
        let may = length > SLOT_LIMIT
            && (self.room == self.mine.buffer.len() || !self.is_short_of_room(length))
            && self.awaited(length).is_none();
        if may {
            self.early = Early { round, length, written: 0 };
        }
        may
    }

    /// How much of this round's payload of `length` bytes lies in its place already.
    pub(super) fn written_early(&self, length: usize) -> usize {
        let Early { round, length: early, written } = self.early;
        // Who has not left the round before broke off what it wrote for: an error, or a panic that somebody caught.
        let broke_off = self.left + 1 != self.round;
        if written == 0 || (round, early) != (self.round, length) || broke_off {
            return 0;
        }
        self.mine.buffer.finish_streaming();
        written
    }

    /// Takes all others for distant, until it finds out.
    #[cfg(any(loom, test))]
    pub fn take_all_for_distant(&mut self) {
        self.distance = crate::distance::Distance::DISTANT;
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use proptest::prelude::*;

    use super::super::{Place, SLOTS_BYTES};
    use super::*;
    use crate::bytes::{LINE_BYTES, Line, SharedBytes};
    use crate::distance::Distance;

    fn content(round: usize, participant: usize, length: usize) -> Vec<u8> {
        (0..length).map(|at| (at * 7 + round * 31 + participant) as u8).collect()
    }

    /// What two participants share: buffers with so many lines behind the slots.
    struct Memory {
        places: [Place; 2],
        lines: [Vec<Line>; 2],
    }

    impl Memory {
        fn of(lines: usize) -> Self {
            let lines = || (0..SLOTS_BYTES / LINE_BYTES + lines).map(|_| Line::new()).collect();
            Self { places: [Place::new(), Place::new()], lines: [lines(), lines()] }
        }

        /// Both views, each with at most so many bytes of its own buffer in use.
        fn boards(&self, room: usize) -> [Board<'_>; 2] {
            let buffer = |at: usize| SharedBytes::new(&self.lines[at]);
            let seats = || [0, 1].map(|at| Seat { place: &self.places[at], buffer: buffer(at) });
            [0, 1].map(|me| {
                let mut board = Board::new(seats(), me);
                board.set_room(room);
                board
            })
        }
    }

    /// What `board` reads of the payload that `other` shows, `length` bytes.
    fn shown(board: &mut Board<'_>, other: usize, length: usize) -> Vec<u8> {
        let mut buffer = vec![0; length];
        assert!(board.has_shown(other));
        board.read(other, 0, &mut buffer).unwrap();
        buffer
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        /// Whatever is read in whatever parts while the next payload is written, or before it is, and whether that has been
        /// announced truly, all see what was shown.
        #[test]
        fn what_is_written_early_is_what_is_shown(
            lengths in prop::collection::vec(prop_oneof![0..300usize, 1500..2600usize, 10_000..20_000usize], 1..12),
            announced in prop::collection::vec(any::<bool>(), 12),
            distant in prop::collection::vec(any::<bool>(), 12),
            part in 100..20_000usize,
            room in 20_000..90_000usize,
        ) {
            let memory = Memory::of(2_000);
            let mut boards = memory.boards(SLOTS_BYTES + room);
            for (round, &length) in lengths.iter().enumerate() {
                for (me, board) in boards.iter_mut().enumerate() {
                    prop_assert_eq!(board.awaited(length), None);
                    board.show([0; 2], [&content(round, me, length), &[]]);
                }
                for (me, board) in boards.iter_mut().enumerate() {
                    let next = lengths.get(round + 1).filter(|_| announced[round]);
                    let next = next.map_or(Vec::new(), |&next| content(round + 1, me, next));
                    let mut buffer = vec![0; length];
                    prop_assert!(board.has_shown(1 - me));
                    for (index, piece) in buffer.chunks_mut(part).enumerate() {
                        match distant[round] {
                            true => board.take_all_for_distant(),
                            false => board.distance = Distance::new(),
                        }
                        board.read_and_write(1 - me, index * part, piece, &next).unwrap();
                    }
                    if !distant[round] {
                        for (index, bytes) in next.chunks(part).enumerate() {
                            board.write_ahead(next.len(), index * part, bytes);
                        }
                    }
                    prop_assert_eq!(buffer, content(round, 1 - me, length));
                    board.leave();
                }
            }
        }
    }

    #[test]
    fn as_much_is_written_as_is_read() {
        let memory = Memory::of(2_000);
        let [mut one, mut other] = memory.boards(usize::MAX);
        assert!(one.awaited(10_000).or(other.awaited(10_000)).is_none());
        one.show([0; 2], [&content(0, 0, 10_000), &[]]);
        other.show([0; 2], [&content(0, 1, 10_000), &[]]);
        assert!(one.has_shown(1));
        one.read_and_write(1, 0, &mut [0; 3_000], &content(1, 0, 9_000)).unwrap();
        assert_eq!(one.early.written, 0, "nobody is distant");
        for (part, written) in [(3_000, 3_000), (4_000, 7_000), (3_000, 9_000)] {
            one.take_all_for_distant();
            one.read_and_write(1, 0, &mut vec![0; part], &content(1, 0, 9_000)).unwrap();
            assert_eq!(one.early.written, written);
        }
        assert!(one.read_and_write(1, 5_000, &mut [0; 5_001], &[]).is_err(), "more than is shown");
    }

    #[test]
    fn what_is_made_for_the_next_round_is_written_at_once_where_there_is_room() {
        let memory = Memory::of(500);
        let [mut one, mut other] = memory.boards(usize::MAX);
        one.show([0; 2], [&content(0, 0, 20_000), &[]]);
        one.leave();
        let next = content(1, 0, 16_000);
        one.write_ahead(16_000, 0, &next[..4_000]);
        assert_eq!(one.early.written, 0, "the last round is still to be read there");
        other.pass([0; 2]);
        other.leave();
        assert!(one.has_done(1, 1));
        one.write_ahead(16_000, 4_000, &next[4_000..8_000]);
        assert_eq!(one.early.written, 0, "what lies before it is not there");
        for (index, bytes) in next.chunks(4_000).enumerate() {
            one.write_ahead(16_000, index * 4_000, bytes);
        }
        assert_eq!(one.early.written, 16_000);
        one.write_ahead(16_000, 16_000, &[1]);
        assert_eq!(one.early.written, 16_000, "more than the payload has");
        one.show([0; 2], [&next, &[]]);
        other.pass([0; 2]);
        assert_eq!(shown(&mut other, 0, 16_000), next);
    }

    #[test]
    fn what_was_written_for_a_round_that_broke_off_is_not_shown() {
        let memory = Memory::of(2_000);
        let [mut one, mut other] = memory.boards(usize::MAX);
        one.show([0; 2], [&content(0, 0, 10_000), &[]]);
        other.pass([0; 2]);
        one.write_ahead(10_000, 0, &content(1, 0, 4_000));
        assert_eq!(one.early.written, 4_000);
        // Neither of them leaves the round.
        let next = content(2, 0, 10_000);
        one.show([0; 2], [&next, &[]]);
        other.pass([0; 2]);
        assert_eq!(shown(&mut other, 0, 10_000), next);
    }
}
