//! The board under every interleaving: a fast participant cannot overwrite what a slow one still reads.
//!
//! `RUSTFLAGS="--cfg loom" cargo test -p shm-core --release --test loom_board`
#![cfg(loom)]

use loom::sync::Arc;
use loom::thread;
use shm_core::board::{AllShown, Board, CELLS, Place, SLOT_LIMIT, SLOTS_BYTES, Seat};
use shm_core::bytes::{LINE_BYTES, Line, SharedBytes};

/// Payload that goes behind the slots.
const LONG: usize = SLOT_LIMIT + 1;
const ROOM: usize = SLOTS_BYTES + 2 * LINE_BYTES;
const TOPIC: [u64; 2] = [7, 9];

struct Memory {
    places: Vec<Place>,
    buffers: Vec<Vec<Line>>,
    all_shown: AllShown,
}

impl Memory {
    /// Buffers with room for one long payload only: every round writes where the one before has written.
    fn new() -> Arc<Self> {
        Self::of(2, ROOM)
    }

    fn of(participants: usize, room: usize) -> Arc<Self> {
        let buffer = |_| (0..room / LINE_BYTES).map(|_| Line::new()).collect();
        let places = (0..participants).map(|_| Place::new()).collect();
        let buffers = (0..participants).map(buffer).collect();
        Arc::new(Self { places, buffers, all_shown: AllShown::new() })
    }

    fn board(&self, me: usize) -> Board<'_> {
        let seats = self.places.iter().zip(&self.buffers);
        let mut board =
            Board::new(seats.map(|(place, lines)| Seat { place, buffer: SharedBytes::new(lines) }), me);
        board.set_room(usize::MAX);
        board
    }

    fn board_that_tells(&self, me: usize) -> Board<'_> {
        let mut board = self.board(me);
        board.share_all_shown(&self.all_shown);
        board
    }
}

fn show(board: &mut Board<'_>, value: u8, length: usize) {
    while board.awaited(length).is_some() {
        thread::yield_now();
    }
    board.show(TOPIC, [&vec![value; length], &[]]);
}

fn look(board: &mut Board<'_>, participant: usize, length: usize) -> u8 {
    while !board.has_shown(participant) {
        thread::yield_now();
    }
    assert_eq!(board.topic(participant), TOPIC);
    let mut value = [0];
    board.read(participant, length - 1, &mut value).unwrap();
    value[0]
}

/// Everyone looks at everyone; the buffer is written again in every round.
#[test]
fn all_see_all_in_every_round() {
    loom::model(|| {
        let memory = Memory::new();
        let theirs = memory.clone();
        let play = |board: &mut Board<'_>, me: usize| {
            for round in 1..=2u8 {
                show(board, 10 * round + me as u8, LONG);
                assert_eq!(look(board, 1 - me, LONG), 10 * round + 1 - me as u8);
                board.leave();
            }
        };
        let other = thread::spawn(move || play(&mut theirs.board(1), 1));
        play(&mut memory.board(0), 0);
        other.join().unwrap();
    });
}

/// The first writes what it shows next while it reads what the second shows.
#[test]
fn what_is_written_while_it_reads_overruns_nobody() {
    overrun_nobody(|first, buffer, next| {
        first.take_all_for_distant();
        first.read_and_write(1, 0, buffer, next).unwrap();
    });
}

/// The first writes what it shows next when it has read what the second shows.
#[test]
fn what_is_written_ahead_overruns_nobody() {
    overrun_nobody(|first, buffer, next| {
        first.read(1, 0, buffer).unwrap();
        first.write_ahead(LONG, 0, next);
    });
}

/// The first reads what the second shows and writes what it shows next, and the third is slow to look at the first. There is
/// room for two payloads: each goes where the last but one was.
fn overrun_nobody(read_and_write: fn(&mut Board<'_>, &mut [u8], &[u8])) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(2);
    model.check(move || {
        let memory = Memory::of(3, ROOM + 2 * LINE_BYTES);
        let theirs = memory.clone();
        let slow = thread::spawn(move || {
            let mut board = theirs.board(2);
            for value in 1..=4 {
                board.pass(TOPIC);
                assert_eq!(look(&mut board, 0, LONG), value);
                board.leave();
            }
        });
        let (mut first, mut second) = (memory.board(0), memory.board(1));
        for value in 1..=4 {
            show(&mut first, value, LONG);
            show(&mut second, value, LONG);
            assert!(first.has_shown(1));
            let (mut buffer, next) = ([0; LONG], [value + 1; LONG]);
            read_and_write(&mut first, &mut buffer, &next);
            assert_eq!(buffer, [value; LONG]);
            first.leave();
            second.leave();
        }
        slow.join().unwrap();
    });
}

/// A root shows `payloads`, the other only reads them.
fn root_and_reader(payloads: &'static [usize]) {
    let mut model = loom::model::Builder::new();
    // A root that never waits has few threads to change between, but many rounds.
    model.preemption_bound = Some(2);
    model.check(move || {
        let memory = Memory::new();
        let theirs = memory.clone();
        let reader = thread::spawn(move || {
            let mut board = theirs.board(1);
            for (&length, value) in payloads.iter().zip(1..) {
                board.pass(TOPIC);
                assert_eq!(look(&mut board, 0, length), value);
                board.leave();
            }
        });
        let mut board = memory.board(0);
        for (&length, value) in payloads.iter().zip(1..) {
            show(&mut board, value, length);
            board.leave();
        }
        reader.join().unwrap();
    });
}

#[test]
fn a_root_does_not_overrun_a_slow_reader_of_its_buffer() {
    root_and_reader(&[LONG, LONG]);
}

#[test]
fn a_root_does_not_overrun_a_slow_reader_of_its_cells() {
    root_and_reader(&[1; CELLS + 2]);
}

#[test]
fn a_root_does_not_overrun_a_slow_reader_of_its_slots() {
    root_and_reader(&[SLOT_LIMIT; CELLS + 2]);
}

/// One shows, the other was wrong and passes: who waits for it learns that, and what it believed.
#[test]
fn a_participant_that_passes_is_not_waited_for() {
    loom::model(|| {
        let memory = Memory::new();
        let theirs = memory.clone();
        let other = thread::spawn(move || {
            let mut board = theirs.board(1);
            for round in 1..=3 {
                board.pass([round, 0]);
                board.leave();
            }
        });
        let mut board = memory.board(0);
        show(&mut board, 1, 1);
        while !board.has_passed(1) {
            assert!(!board.has_shown(1));
            thread::yield_now();
        }
        assert!(matches!(board.passed_topic(1), Some([1, 0]) | None));
        other.join().unwrap();
    });
}

/// The second has seen all others and tells; the third looks at nothing else, and goes on to show in cells that it had used before.
#[test]
fn who_is_told_sees_what_all_show_and_overruns_nobody() {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(2);
    model.check(|| {
        let memory = Memory::of(3, ROOM);
        let theirs = memory.clone();
        let told = thread::spawn(move || {
            let mut board = theirs.board_that_tells(2);
            for round in 1..=CELLS as u8 + 1 {
                assert_eq!(
                    board.awaited(1),
                    None,
                    "who was told knows that all have done with the round before"
                );
                board.show(TOPIC, [&[30 + round], &[]]);
                while board.teller().is_none() {
                    thread::yield_now();
                }
                assert_eq!(board.teller(), Some(1));
                for other in [0, 1] {
                    let mut value = [0];
                    board.read(other, 0, &mut value).unwrap();
                    assert_eq!((board.topic(other), value), (TOPIC, [10 * (other as u8 + 1) + round]));
                }
                board.leave();
            }
        });
        let mut boards = [0, 1].map(|me| memory.board_that_tells(me));
        for round in 1..=CELLS as u8 + 1 {
            boards.iter_mut().zip([10, 20]).for_each(|(board, first)| show(board, first + round, 1));
            assert_eq!(look(&mut boards[1], 2, 1), 30 + round);
            assert!(boards[1].has_shown(0));
            assert_eq!(boards[1].tell(), Ok(1));
            assert_eq!(look(&mut boards[0], 2, 1), 30 + round);
            boards.iter_mut().for_each(Board::leave);
        }
        told.join().unwrap();
    });
}

/// Both have seen each other, and both would tell.
#[test]
fn a_round_has_one_teller() {
    loom::model(|| {
        let memory = Memory::new();
        let theirs = memory.clone();
        let play = |board: &mut Board<'_>, me: usize| {
            [1, 2].map(|round| {
                show(board, round, 1);
                look(board, 1 - me, 1);
                let teller = board.tell().unwrap();
                assert_eq!(board.teller(), Some(teller));
                board.leave();
                teller
            })
        };
        let other = thread::spawn(move || play(&mut theirs.board_that_tells(1), 1));
        let tellers = play(&mut memory.board_that_tells(0), 0);
        assert_eq!(tellers, other.join().unwrap());
    });
}
