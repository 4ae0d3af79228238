use super::*;
use crate::bytes::Line;

fn round_of_two(show: impl FnOnce(&mut Board<'_>), check: impl FnOnce(&mut Board<'_>)) {
    let places = [Place::new(), Place::new()];
    let lines: Vec<_> = (0..SLOTS_BYTES / LINE_BYTES).map(|_| Line::new()).collect();
    let seats = || places.each_ref().map(|place| Seat { place, buffer: SharedBytes::new(&lines) });
    let [mut one, mut other] = [0, 1].map(|me| Board::new(seats(), me));
    one.set_room(SLOTS_BYTES);
    show(&mut one);
    other.pass([1, 1]);
    check(&mut other);
}

#[test]
fn short_payload_of_every_length_arrives_in_one_part_and_in_two() {
    let payload: Vec<u8> = (1..=INLINE_BYTES as u8 + 8).collect();
    for (length, cut) in (0..=payload.len()).flat_map(|length| (0..=length).map(move |cut| (length, cut))) {
        let parts = [&payload[..cut], &payload[cut..length]];
        round_of_two(
            |one| one.show([1, 1], parts),
            |other| {
                assert!(other.has_shown(0));
                let mut found = vec![0; length];
                assert_eq!(other.read(0, 0, &mut found), Ok(()));
                assert_eq!(found, payload[..length], "{length} bytes, cut at {cut}");
                assert_eq!(other.read(0, 1, &mut found), Err(Nonsense), "there are {length} bytes");
            },
        );
    }
}

#[test]
fn a_slot_is_expected_as_many_rounds_later_as_the_last_time() {
    let expected_after = |lengths: &[usize]| {
        let mut found = Vec::new();
        round_of_two(
            |one| {
                for &length in lengths {
                    one.all_done = one.round;
                    one.show([1, 1], [&vec![7; length], &[]]);
                    found.push(one.expects_slot());
                }
            },
            |_| {},
        );
        found
    };
    let (slot, cell) = (INLINE_BYTES + 1, 0);
    assert_eq!(expected_after(&[slot, slot, slot]), [true; 3]);
    let alternating = expected_after(&[cell, slot, cell, slot, cell, slot]);
    assert_eq!(alternating, [false, false, true, false, true, false]);
    assert_eq!(expected_after(&[cell, cell, cell]), [false; 3]);
}

#[test]
fn who_looks_first_pauses_but_not_after_long_payload() {
    let looks = |board: &mut Board<'_>| [board.pauses(), board.pauses()];
    let shown = |length: usize| {
        let mut found = [7; 2];
        round_of_two(
            |one| {
                one.show([1, 1], [&vec![7; length], &[]]);
                found = looks(one);
            },
            |other| assert_eq!(looks(other), [1, 0], "who passes looks next"),
        );
        found
    };
    assert_eq!(shown(INLINE_BYTES), [1, 0]);
    assert_eq!(shown(INLINE_BYTES + 1), [0, 0]);
}

#[test]
fn distant_participants_pause_for_longer_and_after_long_payload_too() {
    round_of_two(
        |one| {
            one.distance = Distance::DISTANT;
            one.show([1, 1], [&[7; INLINE_BYTES + 1], &[]]);
            assert_eq!(one.pauses(), FAR_PAUSES);
        },
        |other| {
            other.distance = Distance::DISTANT;
            assert_eq!(other.pauses(), FAR_PAUSES);
        },
    );
}

/// Rounds in which all show something short need no look at how far the others are: it is learnt from samples.
#[test]
fn every_other_participant_is_sampled_in_turn() {
    let places = [Place::new(), Place::new(), Place::new()];
    let seats = places.each_ref().map(|place| Seat { place, buffer: SharedBytes::new(&[]) });
    let mut boards = [0, 1, 2].map(|me| Board::new(seats, me));
    for board in &mut boards {
        board.show([1, 1], [&[], &[]]);
        board.leave();
    }
    let said = |board: &Board<'_>| [0, 1, 2].map(|other| board.others[other].said);
    let mut sampled = [0, 1, 2].map(|_| {
        boards[0].sample_distance();
        said(&boards[0])
    });
    assert_eq!(sampled, [[0, 1, 0], [0, 1, 1], [0, 1, 1]]);
    sampled = [0, 1, 2].map(|_| {
        boards[2].sample_distance();
        said(&boards[2])
    });
    assert_eq!(sampled, [[1, 0, 0], [1, 1, 0], [1, 1, 0]]);
}

#[test]
fn who_tells_first_is_the_teller_until_the_next_round() {
    let (places, word) = ([Place::new(), Place::new()], AllShown::new());
    let seats = places.each_ref().map(|place| Seat { place, buffer: SharedBytes::new(&[]) });
    let mut boards = [0, 1].map(|me| Board::new(seats, me));
    assert_eq!(boards[0].teller(), None, "they share no word");
    boards.iter_mut().for_each(|board| board.share_all_shown(&word));
    assert_eq!(boards[0].teller(), None, "no round has begun");
    for (first, second) in [(1, 0), (0, 1)] {
        boards.iter_mut().for_each(|board| board.show([1, 1], [&[], &[]]));
        assert_eq!(boards.each_mut().map(Board::teller), [None; 2]);
        assert_eq!(boards[first].tell(), Ok(first));
        assert_eq!(boards[second].tell(), Ok(first));
        assert_eq!(boards.each_mut().map(Board::teller), [Some(first); 2]);
    }
}

#[test]
fn a_teller_that_cannot_be_is_nonsense() {
    let (place, word) = (Place::new(), AllShown::new());
    let mut board = Board::new([Seat { place: &place, buffer: SharedBytes::new(&[]) }], 0);
    board.share_all_shown(&word);
    board.show([1, 1], [&[], &[]]);
    // Of this round, but there is no participant 1; of a later round.
    for told in [1 << 16 | 1, 2 << 16] {
        word.say(told);
        assert_eq!((board.teller(), board.tell()), (None, Err(Nonsense)));
    }
}
