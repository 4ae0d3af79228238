//! What a ring cell says: the header of every message, and the control cells of long ones.
//!
//! ```text
//! offset  message (EAGER, LENT, RENDEZVOUS, OFFER) CHUNK             DATA        MATCH
//!  0      sequence         u32   (shm-core ring)
//!  4      payload bytes, next row   u16   (shm-core ring)
//!  6      kind and flags   u16   (with those before, one word)
//!  8      context          u32                     message id        message id  message id
//! 12      source u16, call site u16                first chunk
//! 16      tag              u32                     bytes in chunks
//! 20      element type     u32
//! 24      length in bytes  u64
//! 32      payload                                                    payload
//!         LENT: chunk u32, offset in it 31 bits, whether it is the receiver's
//!         RENDEZVOUS: message id u32
//!         OFFER: message id u32, transfer u32, address u64, serial u64, seal u64
//!
//!         INVITE            PULLED, PUSHED    PART
//!  8      message id        message id        chunk
//! 12                        blocks            offset in it, as for LENT
//! 16      address  u64                        number of the part, from 0 on
//! 24      seal     u64      seal     u64
//! ```
//!
//! A message id is chosen by the sender and valid between one sender and one receiver until its last byte.

use shm_core::ring::{Body, CELL_WORDS};

/// The whole payload travels with the envelope.
pub(crate) const EAGER: u16 = 1;
/// The payload stays with the sender until the receiver answers MATCH; a first few chunks may follow at once.
pub(crate) const RENDEZVOUS: u16 = 2;
/// A chunk of the sender's pool, or a run of them, holds the next bytes of a rendezvous message.
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
/// Sender to receiver: the same.
pub(crate) const PUSHED: u16 = 9;
/// The payload is in chunks of either rank's pool, which the receiver empties as soon as it sees it: here is the first part,
/// the others follow in PART cells, with nothing between them.
pub(crate) const LENT: u16 = 10;

/// The next part of the LENT message before it.
pub(crate) const PART: u16 = 11;

const KIND_MASK: u16 = 0x00ff;
/// The send completes only when the message is matched.
pub(crate) const FLAG_SYNCHRONOUS: u16 = 0x0100;
/// The payload is an encoded object, not elements of a plain type.
pub(crate) const FLAG_OBJECT: u16 = 0x0200;
/// Of messages, as opposed to those of single cells.
const MESSAGE_FLAGS: u16 = FLAG_SYNCHRONOUS | FLAG_OBJECT;
/// The chunk was written past the caches, for a distant core.
const FLAG_STREAMED: u16 = 0x0400;
/// More parts follow in the same chunk: it is not given back yet.
const FLAG_KEEP: u16 = 0x0800;

/// The header of a message, as matching sees it.
///
/// The fields lie in an order in which none follows the one that it is joined with in [`Envelope::words`]: a load of
/// two fields that were just stored one by one has to wait until the stores have left the processor's store buffer.
/// Behind stores to a line of another core that took a sender 17 ns of 25.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub(crate) struct Envelope {
    pub(crate) length: u64,
    pub(crate) element_type: u32,
    pub(crate) tag: i32,
    pub(crate) source: u16,
    pub(crate) flags: u16,
    pub(crate) context: u32,
    pub(crate) call_site: u16,
}

impl Envelope {
    #[inline(always)]
    pub(crate) fn words(&self) -> [u64; CELL_WORDS] {
        [
            u64::from(self.context) | u64::from(self.source) << 32 | u64::from(self.call_site) << 48,
            u64::from(self.tag as u32) | u64::from(self.element_type) << 32,
            self.length,
        ]
    }

    #[inline]
    pub(crate) fn from_body(body: &Body) -> Self {
        let [origin, content, length] = body.words;
        Self {
            flags: body.kind & MESSAGE_FLAGS,
            context: origin as u32,
            source: (origin >> 32) as u16,
            call_site: (origin >> 48) as u16,
            tag: content as i32,
            element_type: (content >> 32) as u32,
            length,
        }
    }

    pub(crate) fn is_object(&self) -> bool {
        self.flags & FLAG_OBJECT != 0
    }
}

/// Where a part of an eager message is: what its cell carries.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Lent {
    pub(crate) chunk: u32,
    pub(crate) offset: u32,
    /// The chunk belongs to the pool of who reads this, and not to that of the other rank.
    pub(crate) mine: bool,
}

impl Lent {
    const MINE: u64 = 1 << 63;

    /// The beginning of a chunk of the other rank's pool.
    pub(crate) fn theirs(chunk: u32) -> Self {
        Self { chunk, offset: 0, mine: false }
    }

    /// The same place, as the other rank has to read it.
    #[inline]
    pub(crate) fn for_the_other(self) -> Self {
        Self { mine: !self.mine, ..self }
    }

    #[inline]
    pub(crate) fn to_word(self) -> u64 {
        u64::from(self.chunk) | u64::from(self.offset) << 32 | u64::from(self.mine) << 63
    }

    #[inline]
    pub(crate) fn from_word(word: u64) -> Self {
        let place = word & !Self::MINE;
        Self { chunk: place as u32, offset: (place >> 32) as u32, mine: word & Self::MINE != 0 }
    }

    pub(crate) fn to_bytes(self) -> [u8; size_of::<u64>()] {
        self.to_word().to_le_bytes()
    }
}

/// Whether this is a message of plain elements in chunks, to whose sender its match means nothing.
#[inline]
pub(crate) fn is_in_a_chunk(body: &Body) -> bool {
    body.kind & (KIND_MASK | MESSAGE_FLAGS) == LENT
}

#[inline]
pub(crate) fn kind(body: &Body) -> u16 {
    body.kind & KIND_MASK
}

/// The words of a control cell.
pub(crate) fn control_words(message: u32, chunk: u32, bytes: u32) -> [u64; CELL_WORDS] {
    [u64::from(message) | u64::from(chunk) << 32, bytes.into(), 0]
}

/// Message id, chunk and bytes in it, of a control cell.
pub(crate) fn control(body: &Body) -> (u32, u32, u32) {
    let [name, bytes, _] = body.words;
    (name as u32, (name >> 32) as u32, bytes as u32)
}

/// The flags of a cell that tells of a chunk.
#[inline]
pub(crate) fn chunk_flags(streamed: bool, keep: bool) -> u16 {
    (u16::from(streamed) * FLAG_STREAMED) | (u16::from(keep) * FLAG_KEEP)
}

/// Whether the chunk of a cell was written into the caches just now.
#[inline]
pub(crate) fn is_fresh(body: &Body) -> bool {
    body.kind & FLAG_STREAMED == 0
}

/// Whether more parts follow in the chunk of a cell.
#[inline]
pub(crate) fn keeps_chunk(body: &Body) -> bool {
    body.kind & FLAG_KEEP != 0
}

/// The words of the PART cell with number `index`.
pub(crate) fn part_words(index: usize, place: Lent) -> [u64; CELL_WORDS] {
    [place.to_word(), index as u64, 0]
}

/// Number and place of a PART cell.
pub(crate) fn part(body: &Body) -> (u64, Lent) {
    let [place, index, _] = body.words;
    (index, Lent::from_word(place))
}

/// The words of an INVITE cell.
pub(crate) fn invite_words(message: u32, address: u64, seal: u64) -> [u64; CELL_WORDS] {
    [message.into(), address, seal]
}

/// The address of an INVITE cell.
pub(crate) fn invitation(body: &Body) -> u64 {
    body.words[1]
}

/// The words of a PULLED or PUSHED cell.
pub(crate) fn copied_words(message: u32, blocks: u32, seal: u64) -> [u64; CELL_WORDS] {
    [u64::from(message) | u64::from(blocks) << 32, 0, seal]
}

/// The seal of an INVITE, PULLED or PUSHED cell.
pub(crate) fn seal(body: &Body) -> u64 {
    body.words[2]
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
