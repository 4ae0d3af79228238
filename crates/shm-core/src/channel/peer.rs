//! Who sits at the other end: told from its attendance number, which is odd while somebody is attached.

use super::error::Departure;

/// What the attendance number says about the peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Presence {
    /// Nobody has come since the last departure that was reported.
    Absent,
    /// Attached by its number. Whether the process lives is for its lock to say.
    Here,
    /// The peer that this end has dealt with is gone.
    Gone(Departure),
}

/// The attendance number that this end deals with: odd is a peer, even is the wait for the next one.
#[derive(Debug, Clone, Copy)]
pub(super) struct Peer(u32);

impl Peer {
    /// The peer as found at attach: `alive` is what its lock says.
    pub(super) fn found(attendance: u32, alive: bool) -> Self {
        let died = attendance % 2 == 1 && !alive;
        Self(attendance.wrapping_add(u32::from(died)))
    }

    /// What `attendance`, just read, says.
    pub(super) fn presence(&mut self, attendance: u32) -> Presence {
        let ahead = attendance.wrapping_sub(self.0) as i32;
        if self.0.is_multiple_of(2) && ahead > 0 {
            self.0 = self.0.wrapping_add(1);
        }
        match attendance.wrapping_sub(self.0) as i32 {
            _ if self.0.is_multiple_of(2) => Presence::Absent,
            0 => Presence::Here,
            1 => Presence::Gone(Departure::Left),
            _ => Presence::Gone(Departure::Replaced),
        }
    }

    /// Takes note of a departure that has been reported, with the number as it is now: whoever else came and went
    /// meanwhile is covered, and this end waits for, or finds, the one after.
    pub(super) fn acknowledge(&mut self, attendance: u32) {
        let died = attendance == self.0;
        self.0 = if died { attendance.wrapping_add(1) } else { attendance - attendance % 2 };
    }
}

/// The number of an end that attaches after `previous`: a dead predecessor's number is odd still.
pub(super) fn next_attendance(previous: u32) -> u32 {
    previous.wrapping_add(1 + previous % 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_comes_leaves_and_a_successor_comes() {
        let mut peer = Peer::found(0, false);
        assert_eq!(peer.presence(0), Presence::Absent);
        assert_eq!(peer.presence(1), Presence::Here);
        assert_eq!(peer.presence(2), Presence::Gone(Departure::Left));
        peer.acknowledge(2);
        assert_eq!(peer.presence(2), Presence::Absent);
        assert_eq!(peer.presence(3), Presence::Here);
    }

    #[test]
    fn a_death_is_reported_once_and_the_successor_of_the_dead_is_new() {
        let mut peer = Peer::found(7, true);
        assert_eq!(peer.presence(7), Presence::Here);
        peer.acknowledge(7);
        assert_eq!(peer.presence(7), Presence::Absent);
        assert_eq!(next_attendance(7), 9);
        assert_eq!(peer.presence(9), Presence::Here);
    }

    #[test]
    fn a_replacement_between_two_looks_is_a_departure() {
        for successor in [9, 10, 11] {
            let mut peer = Peer::found(7, true);
            assert_eq!(peer.presence(successor), Presence::Gone(Departure::Replaced));
        }
        let mut nobody = Peer::found(7, false);
        assert_eq!(nobody.presence(10), Presence::Gone(Departure::Left));
    }

    #[test]
    fn numbers_wrap() {
        let mut peer = Peer::found(u32::MAX, true);
        assert_eq!(peer.presence(u32::MAX), Presence::Here);
        assert_eq!(peer.presence(next_attendance(u32::MAX)), Presence::Gone(Departure::Replaced));
        assert_eq!(peer.presence(0), Presence::Gone(Departure::Left));
    }
}
