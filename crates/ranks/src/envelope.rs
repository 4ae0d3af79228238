//! What a ring cell says: the header of every message, and the control cells of long ones.
//!
//! ```text
//! offset  message (EAGER, RENDEZVOUS, OFFER)       CHUNK             DATA        MATCH
//!  0      sequence         u32   (shm-core ring)
//!  4      payload bytes    u16   (shm-core ring)
//!  6      kind and flags   u16
//!  8      context          u32                     message id        message id  message id
//! 12      source u16, call site u16                chunk
//! 16      tag              u32                     bytes in chunk
//! 20      element type     u32
//! 24      length in bytes  u64
//! 32      payload, first 32 bytes                                    payload
//!         RENDEZVOUS: message id u32
//!         OFFER: message id u32, transfer u32, address u64, seal u64
//!
//!         INVITE            PULLED, PUSHED
//!  8      message id        message id
//! 12      address  u64      blocks
//! 20      seal     u64
//! ```
//!
//! A message id is chosen by the sender and valid between one sender and one receiver until its last byte.

use shm_core::ring::{Body, CELL_WORDS};

/// The whole payload travels with the envelope.
pub(crate) const EAGER: u16 = 1;
/// The payload stays with the sender until the receiver answers MATCH; a first few chunks may follow at once.
pub(crate) const RENDEZVOUS: u16 = 2;
/// One chunk of the sender's pool holds the next bytes of a rendezvous message.
pub(crate) const CHUNK: u16 = 3;
/// The whole payload of a short rendezvous message, after its match.
pub(crate) const DATA: u16 = 4;
/// Receiver to sender: the message has been matched, send the rest.
pub(crate) const MATCH: u16 = 5;
/// The payload stays with the sender until the receiver copies it directly (`engine/direct.rs`).
pub(crate) const OFFER: u16 = 6;
/// Receiver to sender: an offered message goes there, copy along.
pub(crate) const INVITE: u16 = 7;
/// Receiver to sender: so many blocks of an offered message are copied, and no more will be by this side.
pub(crate) const PULLED: u16 = 8;
/// Sender to receiver: so many more blocks of an offered message are copied.
pub(crate) const PUSHED: u16 = 9;

const KIND_MASK: u16 = 0x00ff;
/// The send completes only when the message is matched.
pub(crate) const FLAG_SYNCHRONOUS: u16 = 0x0100;
/// The payload is an encoded object, not elements of a plain type.
pub(crate) const FLAG_OBJECT: u16 = 0x0200;

/// The header of a message, as matching sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Envelope {
    pub(crate) flags: u16,
    pub(crate) context: u32,
    pub(crate) source: u16,
    pub(crate) call_site: u16,
    pub(crate) tag: i32,
    pub(crate) element_type: u32,
    pub(crate) length: u64,
}

impl Envelope {
    #[inline]
    pub(crate) fn words(&self) -> [u32; CELL_WORDS] {
        [
            self.context,
            u32::from(self.source) | u32::from(self.call_site) << 16,
            self.tag as u32,
            self.element_type,
            self.length as u32,
            (self.length >> 32) as u32,
        ]
    }

    #[inline]
    pub(crate) fn from_body(body: &Body) -> Self {
        let words = &body.words;
        Self {
            flags: body.kind & !KIND_MASK,
            context: words[0],
            source: words[1] as u16,
            call_site: (words[1] >> 16) as u16,
            tag: words[2] as i32,
            element_type: words[3],
            length: u64::from(words[4]) | u64::from(words[5]) << 32,
        }
    }

    pub(crate) fn is_object(&self) -> bool {
        self.flags & FLAG_OBJECT != 0
    }
}

#[inline]
pub(crate) fn kind(body: &Body) -> u16 {
    body.kind & KIND_MASK
}

/// The words of a control cell.
pub(crate) fn control_words(message: u32, chunk: u32, bytes: u32) -> [u32; CELL_WORDS] {
    [message, chunk, bytes, 0, 0, 0]
}

/// The words of an INVITE cell.
pub(crate) fn invite_words(message: u32, address: u64, seal: u64) -> [u32; CELL_WORDS] {
    [message, address as u32, (address >> 32) as u32, seal as u32, (seal >> 32) as u32, 0]
}

/// Address and seal of an INVITE cell.
pub(crate) fn invitation(words: &[u32; CELL_WORDS]) -> (u64, u64) {
    let long = |at: usize| u64::from(words[at]) | u64::from(words[at + 1]) << 32;
    (long(1), long(3))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn words_carry_every_field(
            flags in prop::sample::select(vec![0, FLAG_SYNCHRONOUS, FLAG_OBJECT, FLAG_OBJECT | FLAG_SYNCHRONOUS]),
            context: u32, source: u16, call_site: u16, tag: i32, element_type: u32, length: u64,
        ) {
            let envelope = Envelope { flags, context, source, call_site, tag, element_type, length };
            let mut body = Body::default();
            (body.kind, body.words) = (EAGER | flags, envelope.words());
            prop_assert_eq!(Envelope::from_body(&body), envelope);
            prop_assert_eq!(kind(&body), EAGER);
        }
    }
}
