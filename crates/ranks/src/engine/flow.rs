//! Whether a non-blocking receive that has come too soon is to wait a moment for its message.
//!
//! # The problem
//!
//! A receive that finds its message at once costs a fifth of one that is posted and found again, and so do all behind it. Of a
//! stream of messages a receiver is through with the last one a moment before the next one comes. But who has messages to send as well
//! must not wait before they are on their way: both sides would take turns then.
//!
//! # The rule
//!
//! Where several messages have come since one receive looked on in vain, and much more comes than goes, a receive looks a few times
//! more. Windows of 64, 97 alternating groups on near cores of a Zen 4 machine and 8 on distant ones, without and with, MB/s:
//!
//! | bytes | near | | distant | |
//! |--:|--:|--:|--:|--:|
//! | 8 | 431 | 515 | 127 | 128 |
//! | 64 | 2585 | 2796 | 815 | 858 |
//! | 256 | 8233 | 9105 | 2335 | 2539 |
//! | 1024 | 16450 | 17710 | 4099 | 4245 |
//! | 4096 | 27590 | 28500 | 8070 | 8431 |
//!
//! With 20 and 40 looks instead of 8 it is the same. In both directions 8 bytes would be 220 instead of 298 if who has as much to send looked
//! again as well (40 groups).

/// How often to look once more, with a pause before each look: some 100 ns.
const LOOKS: u32 = 8;
/// Messages that have come since one looked on in vain.
const BURST: u64 = 2;
/// Messages that come, after which what goes is compared with them ...
const COMPARED: u64 = 256;
/// ... and so many of them to one that goes are a stream.
const RECEIVED_PER_SENT: u64 = 8;

/// What comes from one other rank, and what goes there.
#[derive(Debug, Default)]
pub(super) struct Flow {
    is_one_way: bool,
    /// Of all messages, when one had looked on in vain.
    received_in_vain: u64,
    /// Of all messages, at the last comparison.
    received: u64,
    sent: u64,
}

impl Flow {
    /// How often to look once more for a message that is not there, when so many have come and gone in all.
    pub(super) fn looks(&mut self, received: u64, sent: u64) -> u32 {
        let (came, went) = (received.wrapping_sub(self.received), sent.wrapping_sub(self.sent));
        if came.max(went) >= COMPARED {
            self.is_one_way = went.saturating_mul(RECEIVED_PER_SENT) <= came;
            (self.received, self.sent) = (received, sent);
        }
        let is_burst = received.wrapping_sub(self.received_in_vain) >= BURST;
        if self.is_one_way && is_burst { LOOKS } else { 0 }
    }

    /// The message behind so many did not come.
    pub(super) fn was_in_vain(&mut self, received: u64) {
        self.received_in_vain = received;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MANY: u64 = 2 * COMPARED;

    /// A flow of which so many messages came for each that went.
    fn flow(received_per_sent: u64) -> Flow {
        let mut flow = Flow::default();
        for received in 1..=MANY {
            flow.looks(received, received / received_per_sent);
        }
        flow
    }

    #[test]
    fn who_only_receives_looks_again() {
        let mut flow = flow(64);
        assert_eq!(flow.looks(MANY, 8), LOOKS);
        flow.was_in_vain(MANY);
        assert_eq!(flow.looks(MANY, 8), 0, "not twice for nothing");
        assert_eq!(flow.looks(MANY + BURST - 1, 8), 0);
        assert_eq!(flow.looks(MANY + BURST, 8), LOOKS);
    }

    #[test]
    fn who_sends_too_does_not() {
        assert_eq!(flow(1).looks(MANY, MANY), 0);
        assert_eq!(flow(RECEIVED_PER_SENT - 1).looks(MANY, MANY / (RECEIVED_PER_SENT - 1)), 0);
    }

    #[test]
    fn who_begins_to_send_stops_looking() {
        let mut flow = flow(64);
        assert_eq!(flow.looks(MANY, MANY), 0);
    }

    #[test]
    fn nothing_is_known_of_few_messages() {
        assert_eq!(Flow::default().looks(COMPARED - 1, 0), 0);
    }
}
