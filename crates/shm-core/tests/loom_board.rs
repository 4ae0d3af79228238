//! The board under every interleaving: a fast participant cannot overwrite what a slow one still reads.
//!
//! `RUSTFLAGS="--cfg loom" cargo test -p shm-core --release --test loom_board`
#![cfg(loom)]

use loom::sync::Arc;
use loom::sync::atomic::AtomicU64;
use loom::thread;
use shm_core::board::{Board, Seat};
use shm_core::bytes::{LINE_BYTES, Line, SharedBytes};

struct Memory {
    entered: Vec<AtomicU64>,
    buffers: Vec<Vec<Line>>,
}

impl Memory {
    fn new(participants: usize) -> Arc<Self> {
        Arc::new(Self {
            entered: (0..participants).map(|_| AtomicU64::new(0)).collect(),
            buffers: (0..participants).map(|_| vec![Line::new(), Line::new()]).collect(),
        })
    }

    fn board(&self, me: usize) -> Board<'_> {
        let seats = self.entered.iter().zip(&self.buffers);
        let seats = seats.map(|(entered, lines)| Seat { entered, buffers: SharedBytes::new(lines) });
        let board = Board::new(seats.collect(), me);
        assert_eq!(board.capacity(), LINE_BYTES);
        board
    }
}

fn show(board: &mut Board<'_>, value: u8) {
    while board.awaited().is_some() {
        thread::yield_now();
    }
    board.write(0, &[value]);
    board.enter();
}

fn look(board: &mut Board<'_>, participant: usize) -> u8 {
    while !board.has_entered(participant) {
        thread::yield_now();
    }
    let mut value = [0];
    board.read(participant, 0, &mut value);
    value[0]
}

/// Everyone looks at everyone, three rounds: the third uses the first one's buffers again.
#[test]
fn all_see_all_in_every_round() {
    loom::model(|| {
        let memory = Memory::new(2);
        let theirs = memory.clone();
        let play = |board: &mut Board<'_>, me: usize| {
            for round in 1..=3u8 {
                show(board, 10 * round + me as u8);
                assert_eq!(look(board, 1 - me), 10 * round + 1 - me as u8);
            }
        };
        let other = thread::spawn(move || play(&mut theirs.board(1), 1));
        play(&mut memory.board(0), 0);
        other.join().unwrap();
    });
}

/// A root that waits for nobody stays behind a reader that is slow.
#[test]
fn a_root_does_not_overrun_a_slow_reader() {
    loom::model(|| {
        let memory = Memory::new(2);
        let theirs = memory.clone();
        let reader = thread::spawn(move || {
            let mut board = theirs.board(1);
            for round in 1..=3u8 {
                show(&mut board, 0);
                assert_eq!(look(&mut board, 0), round);
            }
        });
        let mut board = memory.board(0);
        for round in 1..=3u8 {
            show(&mut board, round);
        }
        reader.join().unwrap();
    });
}
