//! One publisher, one consumer: messages of any length, one after the other.

use std::time::Duration;

use super::Role;
use super::end::{End, Patience};
use super::error::{ChannelError, Departure};
use super::lane::Envelope;
use super::object::Object;

/// The end that publishes. One message at a time: the next one waits until the last has been consumed.
///
/// Messages that were published completely are consumed even if the publisher leaves or dies then, provided that
/// a consumer is attached; [`Publisher::flush`] waits for that.
#[derive(Debug)]
pub struct Publisher {
    end: End,
}

impl Publisher {
    pub(super) fn attach(object: Object) -> Result<Self, ChannelError> {
        Ok(Self { end: End::attach(object, Role::Publisher)? })
    }

    /// Publishes `message`. Blocks until the last one has been consumed and, if it is longer than the capacity,
    /// until all of it but the last chunk has.
    ///
    /// # Errors
    ///
    /// The consumer left or died: reported once, after which the next call waits for a successor.
    pub fn publish(&mut self, message: &[u8]) -> Result<(), ChannelError> {
        self.end.send(message, 0, &Patience::endless("publish")).map(drop)
    }

    /// [`Publisher::publish`] that gives up after `limit`. The consumer discards what it had received by then.
    ///
    /// # Errors
    ///
    /// As [`Publisher::publish`], and [`ChannelError::Timeout`].
    pub fn publish_timeout(&mut self, message: &[u8], limit: Duration) -> Result<(), ChannelError> {
        self.end.send(message, 0, &Patience::limited("publish", limit)).map(drop)
    }

    /// Publishes `message` if that needs no waiting; false if the last one has not been consumed. Never blocks.
    ///
    /// # Errors
    ///
    /// The consumer left, or the message is longer than the capacity.
    pub fn try_publish(&mut self, message: &[u8]) -> Result<bool, ChannelError> {
        self.end.try_send(message, 0, "try_publish").map(|sent| sent.is_some())
    }

    /// Blocks until the last message has been consumed.
    ///
    /// # Errors
    ///
    /// As [`Publisher::publish`].
    pub fn flush(&mut self) -> Result<(), ChannelError> {
        self.end.wait_until_empty(&Patience::endless("flush"))
    }

    /// [`Publisher::flush`] that gives up after `limit`.
    ///
    /// # Errors
    ///
    /// As [`Publisher::publish_timeout`].
    pub fn flush_timeout(&mut self, limit: Duration) -> Result<(), ChannelError> {
        self.end.wait_until_empty(&Patience::limited("flush", limit))
    }

    /// Most bytes that one chunk carries.
    pub fn capacity(&self) -> usize {
        self.end.capacity()
    }
}

/// The end that consumes.
#[derive(Debug)]
pub struct Consumer {
    end: End,
    assembly: Assembly,
}

impl Consumer {
    pub(super) fn attach(object: Object) -> Result<Self, ChannelError> {
        Ok(Self { end: End::attach(object, Role::Consumer)?, assembly: Assembly::default() })
    }

    /// Blocks until a message is there and returns it, in the length in which it was published.
    ///
    /// # Errors
    ///
    /// The publisher left or died and everything that it had published completely has been consumed: reported
    /// once, after which the next call waits for a successor. [`ChannelError::Abandoned`] if a message ended
    /// halfway.
    pub fn receive(&mut self) -> Result<Vec<u8>, ChannelError> {
        self.assembly.receive(&mut self.end, &Patience::endless("receive"))?;
        Ok(self.assembly.finish().0)
    }

    /// [`Consumer::receive`] into a buffer that is used again: its contents are replaced.
    ///
    /// # Errors
    ///
    /// As [`Consumer::receive`]. The buffer is as it was then.
    pub fn receive_into(&mut self, buffer: &mut Vec<u8>) -> Result<(), ChannelError> {
        self.assembly.receive(&mut self.end, &Patience::endless("receive"))?;
        self.assembly.finish_into(buffer);
        Ok(())
    }

    /// [`Consumer::receive`] that gives up after `limit`. What has come of a long message by then is kept for the
    /// next call.
    ///
    /// # Errors
    ///
    /// As [`Consumer::receive`], and [`ChannelError::Timeout`].
    pub fn receive_timeout(&mut self, limit: Duration) -> Result<Vec<u8>, ChannelError> {
        self.assembly.receive(&mut self.end, &Patience::limited("receive", limit))?;
        Ok(self.assembly.finish().0)
    }

    /// A message if all of it is there. Never blocks. Of a message longer than the capacity each call takes one
    /// chunk, and the last one returns it.
    ///
    /// # Errors
    ///
    /// As [`Consumer::receive`], but a death is seen only by the calls that block.
    pub fn try_receive(&mut self) -> Result<Option<Vec<u8>>, ChannelError> {
        let complete = self.assembly.try_receive(&mut self.end, "try_receive")?;
        Ok(complete.then(|| self.assembly.finish().0))
    }

    /// Most bytes that one chunk carries.
    pub fn capacity(&self) -> usize {
        self.end.capacity()
    }
}

impl End {
    /// Sends a message, chunk by chunk; returns its number.
    pub(super) fn send(
        &mut self,
        message: &[u8],
        answers: u64,
        patience: &Patience,
    ) -> Result<u64, ChannelError> {
        self.check_departed(patience.operation())?;
        let mut envelope = self.first_chunk(message, answers);
        loop {
            if !self.put(envelope, message) {
                self.wait_until_empty(patience)?;
                continue;
            }
            envelope.offset = envelope.offset.saturating_add(self.capacity() as u64);
            if envelope.offset >= envelope.total {
                return Ok(envelope.message);
            }
        }
    }

    /// Sends a message of one chunk if the lane is empty; returns its number then.
    pub(super) fn try_send(
        &mut self,
        message: &[u8],
        answers: u64,
        operation: &'static str,
    ) -> Result<Option<u64>, ChannelError> {
        let (length, capacity) = (message.len(), self.capacity());
        if length > capacity {
            return Err(ChannelError::LongerThanCapacity { name: self.name(), length, capacity });
        }
        self.check_departed(operation)?;
        let envelope = self.first_chunk(message, answers);
        Ok(self.put(envelope, message).then_some(envelope.message))
    }

    fn first_chunk(&mut self, message: &[u8], answers: u64) -> Envelope {
        let number = self.producer().last_message().wrapping_add(1);
        Envelope { message: number, total: message.len() as u64, offset: 0, answers }
    }

    fn put(&mut self, envelope: Envelope, message: &[u8]) -> bool {
        let done = self.producer().try_put(envelope, message);
        if done {
            self.ring_peer();
        }
        done
    }
}

/// A message on its way in: the chunks that have come.
///
/// A chunk that begins a message while another one is incomplete means that the producer gave that one up. A
/// chunk from the middle of a message whose beginning never came here belongs to a predecessor, and so does one
/// that answers something that was not asked.
#[derive(Debug, Default)]
pub(super) struct Assembly {
    bytes: Vec<u8>,
    first: Option<Envelope>,
    /// It was there when a peer was found to be replaced: whether that one or its successor began it is not known.
    in_doubt: bool,
    /// What chunks must answer to be taken: 0 except for a client that waits for a reply.
    answers: u64,
}

impl Assembly {
    /// Takes chunks until a message is complete.
    pub(super) fn receive(&mut self, end: &mut End, patience: &Patience) -> Result<(), ChannelError> {
        loop {
            let chunk = end.wait_for_chunk(patience).inspect_err(|error| self.doubt_after(error))?;
            if self.take(end, chunk)? {
                return Ok(());
            }
        }
    }

    /// Takes the chunk that is there; true if it completes a message.
    pub(super) fn try_receive(
        &mut self,
        end: &mut End,
        operation: &'static str,
    ) -> Result<bool, ChannelError> {
        if let Some(chunk) = end.consumer().peek() {
            return self.take(end, chunk);
        }
        let Some(how) = end.departure() else {
            return Ok(false);
        };
        // What was published before the departure is received first, and the departure stays to be reported.
        match end.consumer().peek() {
            Some(chunk) => self.take(end, chunk),
            None => Err(end.gone(how, operation)).inspect_err(|error| self.doubt_after(error)),
        }
    }

    /// A half message of a peer that is gone will not be completed by its successor. Where there is a successor
    /// already, the half may be its own: then the rest of it comes next, and else the beginning of another message.
    fn doubt_after(&mut self, error: &ChannelError) {
        match error {
            ChannelError::PeerGone { how: Departure::Replaced, .. } => self.in_doubt = true,
            ChannelError::PeerGone { .. } => self.forget(),
            _ => {}
        }
    }

    /// Gives up what has come.
    pub(super) fn forget(&mut self) {
        self.bytes.clear();
        self.first = None;
    }

    fn take(&mut self, end: &mut End, chunk: Envelope) -> Result<bool, ChannelError> {
        if chunk.answers != self.answers || (self.first.is_none() && chunk.offset != 0) {
            end.discard_chunk();
            return Ok(false);
        }
        match self.first {
            None => (self.first, self.in_doubt) = (Some(chunk), false),
            Some(first) if !self.continues(first, chunk) => {
                if self.in_doubt {
                    // It was of the predecessor, whose departure has been reported.
                    self.forget();
                    return self.take(end, chunk);
                }
                return Err(self.abandon(end, first));
            }
            Some(_) => {}
        }
        if !end.consumer().take(chunk, &mut self.bytes) {
            self.forget();
            return Err(ChannelError::Damaged {
                name: end.name(),
                field: "chunk offset",
                value: chunk.offset,
            });
        }
        end.ring_peer();
        Ok(self.bytes.len() as u64 == chunk.total)
    }

    fn continues(&self, first: Envelope, chunk: Envelope) -> bool {
        chunk == Envelope { offset: self.bytes.len() as u64, ..first }
    }

    /// Leaves the chunk that is there, the beginning of another message, for the next call.
    fn abandon(&mut self, end: &End, first: Envelope) -> ChannelError {
        let received = self.bytes.len() as u64;
        self.forget();
        ChannelError::Abandoned { name: end.name(), role: end.peer_role(), received, total: first.total }
    }

    /// From here on takes only what answers the message `number`.
    pub(super) fn expect_answer_to(&mut self, number: u64) {
        self.answers = number;
    }

    /// The complete message with the envelope of its first chunk.
    pub(super) fn finish(&mut self) -> (Vec<u8>, Option<Envelope>) {
        (std::mem::take(&mut self.bytes), self.first.take())
    }

    /// As [`Assembly::finish`], by exchange: neither side allocates when messages have similar lengths.
    pub(super) fn finish_into(&mut self, buffer: &mut Vec<u8>) -> Option<Envelope> {
        std::mem::swap(&mut self.bytes, buffer);
        self.bytes.clear();
        self.first.take()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::time::Duration;

    use super::{ChannelError, Consumer, Departure, Publisher};
    use crate::channel::{Channel, Options};

    const CAPACITY: usize = 100;
    const LONG: [u8; 2 * CAPACITY + 50] = [7; 2 * CAPACITY + 50];
    const SHORT: Duration = Duration::from_millis(1);

    fn pair(name: &str) -> (Publisher, Consumer) {
        let created = Channel::create(name, &Options::default().capacity(CAPACITY)).unwrap();
        (created.publisher().unwrap(), Channel::open(name).unwrap().consumer().unwrap())
    }

    fn name(label: &str) -> String {
        format!("/u{}.{label}", std::process::id())
    }

    /// Puts the chunk with this number of a long message.
    fn put(publisher: &mut Publisher, chunk: u64) {
        let mut envelope = publisher.end.first_chunk(&LONG, 0);
        envelope.offset = chunk * CAPACITY as u64;
        // All have the number of the first.
        envelope.message -= u64::from(chunk > 0);
        assert!(publisher.end.put(envelope, &LONG), "the last chunk has been taken");
    }

    fn replaced<T>(result: Result<T, ChannelError>) -> bool {
        matches!(result, Err(ChannelError::PeerGone { how: Departure::Replaced, .. }))
    }

    /// The consumer sees the first chunk of the successor before it sees that there is one.
    fn begun_by_successor(label: &str) -> (Publisher, Consumer) {
        let name = name(label);
        let (mut publisher, mut consumer) = pair(&name);
        publisher.publish(b"of the first").unwrap();
        assert_eq!(consumer.receive().unwrap(), b"of the first");
        drop(publisher);
        let mut successor = Channel::open(&name).unwrap().publisher().unwrap();
        put(&mut successor, 0);
        (successor, consumer)
    }

    #[test]
    fn a_long_message_of_a_successor_is_whole_after_the_report_of_the_departure() {
        let (mut successor, mut consumer) = begun_by_successor("block");
        assert!(replaced(consumer.receive_timeout(SHORT)));
        put(&mut successor, 1);
        assert!(matches!(consumer.receive_timeout(SHORT), Err(ChannelError::Timeout { .. })));
        put(&mut successor, 2);
        assert_eq!(consumer.receive_timeout(SHORT).unwrap(), LONG);
        // Of the next message the end is known again.
        put(&mut successor, 0);
        assert_eq!(consumer.try_receive().unwrap(), None);
        successor.publish(b"another").unwrap();
        assert!(matches!(consumer.receive(), Err(ChannelError::Abandoned { received: 100, total: 250, .. })));
        assert_eq!(consumer.receive().unwrap(), b"another");
    }

    #[test]
    fn a_long_message_of_a_successor_is_whole_for_calls_that_do_not_block() {
        let (mut successor, mut consumer) = begun_by_successor("try");
        assert_eq!(consumer.try_receive().unwrap(), None, "a chunk of three");
        assert!(replaced(consumer.try_receive()));
        put(&mut successor, 1);
        assert_eq!(consumer.try_receive().unwrap(), None);
        put(&mut successor, 2);
        assert_eq!(consumer.try_receive().unwrap().unwrap(), LONG);
    }

    #[test]
    fn half_a_message_of_a_predecessor_gives_way_and_is_reported_once() {
        let name = name("half");
        let (mut publisher, mut consumer) = pair(&name);
        put(&mut publisher, 0);
        assert_eq!(consumer.try_receive().unwrap(), None);
        drop(publisher);
        let mut successor = Channel::open(&name).unwrap().publisher().unwrap();
        assert!(replaced(consumer.receive_timeout(SHORT)));
        successor.publish(b"another").unwrap();
        assert_eq!(consumer.receive_timeout(SHORT).unwrap(), b"another");
    }
}
