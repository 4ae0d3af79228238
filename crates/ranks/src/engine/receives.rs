//! The receives under way: what each waits for, where its message goes, how it stands.
//!
//! A busy program makes more of these than of anything else. So a receive is written where it stays and is never
//! moved, and a freed number keeps its entry for the next receive.

use super::buffer::{Incoming, Unfit};
use super::{Caller, OperationId};
use crate::call_site::CallSites;
use crate::envelope::Envelope;
use crate::error::{Error, Result};
use crate::matching::Pattern;
use crate::p2p::common_type;
use crate::status::Status;

/// What type of elements a receive expects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Expected {
    pub(crate) element_type: u32,
    pub(crate) name: &'static str,
    pub(crate) object: bool,
}

impl Expected {
    /// Whether the elements of a message are of this type; a message without any has no type.
    #[inline]
    pub(super) fn accepts(&self, envelope: &Envelope) -> bool {
        let same = envelope.is_object() == self.object
            && (self.object || self.element_type == envelope.element_type);
        same || envelope.length == 0
    }
}

/// How a receive stands.
#[derive(Debug)]
enum State {
    /// Nobody has this number.
    Free,
    /// The message has not come yet, or not all of it.
    Open,
    Received(Status),
    /// Boxed, as errors are rare and large.
    Failed(Box<Error>),
}

pub(crate) struct Receive {
    pub(crate) pattern: Pattern,
    pub(crate) expected: Expected,
    pub(crate) buffer: Incoming,
    state: State,
    /// A request or a blocked caller will ask for the outcome.
    pub(crate) wanted: bool,
    pub(crate) caller: Caller,
}

/// All receives under way, by number.
#[derive(Default)]
pub(crate) struct Receives {
    table: Vec<Receive>,
    free: Vec<OperationId>,
}

impl Receives {
    /// Makes a receive that somebody wants.
    #[inline]
    pub(super) fn open(
        &mut self,
        pattern: Pattern,
        expected: Expected,
        buffer: Incoming,
        caller: Caller,
    ) -> OperationId {
        let Some(id) = self.free.pop() else {
            return self.push(Receive {
                pattern,
                expected,
                buffer,
                state: State::Open,
                wanted: true,
                caller,
            });
        };
        let entry = &mut self.table[id as usize];
        entry.pattern = pattern;
        entry.expected = expected;
        entry.buffer = buffer;
        entry.state = State::Open;
        entry.wanted = true;
        entry.caller = caller;
        id
    }

    #[cold]
    fn push(&mut self, receive: Receive) -> OperationId {
        self.table.push(receive);
        OperationId::try_from(self.table.len() - 1).expect("fewer than 2^32 operations at a time")
    }

    /// The receive, if the number is in use.
    #[inline]
    pub(crate) fn get(&self, id: OperationId) -> Option<&Receive> {
        self.table.get(id as usize).filter(|receive| !matches!(receive.state, State::Free))
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, id: OperationId) -> Option<&mut Receive> {
        self.table.get_mut(id as usize).filter(|receive| !matches!(receive.state, State::Free))
    }

    /// Frees the number of a receive that nobody asks for any more.
    #[inline]
    pub(super) fn close(&mut self, id: OperationId) {
        if let Some(receive) = self.get_mut(id) {
            receive.buffer = Incoming::Discard;
            receive.state = State::Free;
            self.free.push(id);
        }
    }

    /// Takes the outcome of a complete receive with its buffer; `None` while it is not.
    pub(super) fn take(&mut self, id: OperationId) -> Option<(Result<Status>, Incoming)> {
        let receive = self.get_mut(id)?;
        if receive.is_open() {
            return None;
        }
        let buffer = std::mem::replace(&mut receive.buffer, Incoming::Discard);
        let outcome = match std::mem::replace(&mut receive.state, State::Open) {
            State::Received(status) => Ok(status),
            State::Failed(error) => Err(*error),
            State::Free | State::Open => unreachable!("checked above"),
        };
        self.close(id);
        Some((outcome, buffer))
    }

    /// Like [`Receives::take`], for a receive into a borrowed buffer.
    #[inline]
    pub(super) fn take_status(&mut self, id: OperationId) -> Option<Result<Status>> {
        match self.table.get(id as usize)?.state {
            State::Free | State::Open => None,
            State::Received(status) => {
                self.close(id);
                Some(Ok(status))
            }
            State::Failed(_) => self.take(id).map(|(outcome, _)| outcome),
        }
    }

    /// Completes a receive; `fill` copies the payload to a slice of exactly its length.
    #[inline]
    pub(super) fn deliver(
        &mut self,
        id: OperationId,
        envelope: &Envelope,
        sites: &CallSites,
        fill: impl FnOnce(&mut [u8]),
    ) {
        let Some(receive) = self.get_mut(id) else { return };
        if receive.accept(envelope, sites)
            && let Some(bytes) = receive.buffer.bytes_mut()
        {
            fill(&mut bytes[..envelope.length as usize]);
        }
        self.finish(id, envelope);
    }

    /// The whole message is there.
    #[inline]
    pub(super) fn finish(&mut self, id: OperationId, envelope: &Envelope) {
        let Some(receive) = self.get_mut(id) else { return };
        if receive.is_open() {
            receive.state = State::Received(Status::of(envelope));
        }
        if !receive.wanted {
            self.close(id);
        }
    }

    /// The outcome is an error, unless there is an outcome already.
    pub(super) fn fail(&mut self, id: OperationId, failure: Error) {
        let Some(receive) = self.get_mut(id) else { return };
        if receive.is_open() {
            receive.state = State::Failed(Box::new(failure));
        }
        if !receive.wanted {
            self.close(id);
        }
    }

    /// Nobody asks for the outcome any more. What still comes is thrown away, or goes to a buffer that has to stay.
    pub(super) fn disown(&mut self, id: OperationId, keep_buffer: bool) {
        let Some(receive) = self.get_mut(id) else { return };
        if !keep_buffer {
            receive.buffer = Incoming::Discard;
        }
        receive.wanted = false;
        if !receive.is_open() {
            self.close(id);
        }
    }
}

impl Receive {
    /// Whether there is no outcome yet.
    #[inline]
    pub(crate) fn is_open(&self) -> bool {
        matches!(self.state, State::Open)
    }

    /// Prepares the buffer for a matched message. If it does not fit, the receive fails, and what comes is
    /// thrown away.
    #[inline]
    pub(super) fn accept(&mut self, envelope: &Envelope, sites: &CallSites) -> bool {
        if !self.expected.accepts(envelope) {
            return self.refuse(mismatch(self, envelope, sites));
        }
        match self.buffer.prepare(envelope.length) {
            Ok(()) => true,
            Err(reason) => self.refuse(unfit(self, envelope, reason, sites)),
        }
    }

    #[cold]
    fn refuse(&mut self, failure: Error) -> bool {
        self.buffer = Incoming::Discard;
        self.state = State::Failed(Box::new(failure));
        false
    }
}

#[cold]
fn mismatch(receive: &Receive, envelope: &Envelope, sites: &CallSites) -> Error {
    Error::TypeMismatch {
        operation: receive.caller.operation,
        expected: receive.expected.name,
        found: match common_type(envelope.element_type) {
            _ if envelope.is_object() => "an object (sent by send_object)",
            Some(name) if name != receive.expected.name => name,
            _ => "elements of another type",
        },
        source_rank: envelope.source.into(),
        tag: envelope.tag,
        at: receive.caller.at,
        sent_at: sites.describe(envelope.call_site),
    }
}

#[cold]
fn unfit(receive: &Receive, envelope: &Envelope, reason: Unfit, sites: &CallSites) -> Error {
    let Caller { operation, at } = receive.caller;
    match reason {
        Unfit::NoMemory => Error::OutOfMemory { operation, bytes: envelope.length, at },
        Unfit::TooShort(buffer) => Error::Truncated {
            operation,
            sent: envelope.length,
            buffer,
            source_rank: envelope.source.into(),
            tag: envelope.tag,
            at,
            sent_at: sites.describe(envelope.call_site),
        },
    }
}
