//! One client, one server: a request, then its reply, then the next request.

use std::time::Duration;

use super::Role;
use super::end::{End, Patience};
use super::error::{ChannelError, Departure};
use super::object::Object;
use super::one_way::Assembly;

/// The end that asks.
#[derive(Debug)]
pub struct Client {
    end: End,
    assembly: Assembly,
}

impl Client {
    pub(super) fn attach(object: Object) -> Result<Self, ChannelError> {
        Ok(Self { end: End::attach(object, Role::Client)?, assembly: Assembly::default() })
    }

    /// Sends `request` and returns the reply. Blocks until the server has taken the request and replied.
    ///
    /// # Errors
    ///
    /// The server left or died: reported once, after which the next call waits for a successor.
    pub fn request(&mut self, request: &[u8]) -> Result<Vec<u8>, ChannelError> {
        let mut reply = Vec::new();
        self.request_into(request, &mut reply).map(|()| reply)
    }

    /// [`Client::request`] with a buffer for the reply that is used again: its contents are replaced. Fresh memory
    /// costs more than the exchange for replies of a few hundred KiB.
    ///
    /// # Errors
    ///
    /// As [`Client::request`]. The buffer is as it was then.
    pub fn request_into(&mut self, request: &[u8], reply: &mut Vec<u8>) -> Result<(), ChannelError> {
        self.exchange(request, reply, &Patience::endless("request"))
    }

    /// [`Client::request`] that gives up after `limit`. A reply that comes later is discarded by the next request.
    ///
    /// # Errors
    ///
    /// As [`Client::request`], and [`ChannelError::Timeout`].
    pub fn request_timeout(&mut self, request: &[u8], limit: Duration) -> Result<Vec<u8>, ChannelError> {
        let mut reply = Vec::new();
        self.exchange(request, &mut reply, &Patience::limited("request", limit)).map(|()| reply)
    }

    fn exchange(
        &mut self,
        request: &[u8],
        reply: &mut Vec<u8>,
        patience: &Patience,
    ) -> Result<(), ChannelError> {
        self.forget_stale_reply();
        let number = self.end.send(request, 0, patience)?;
        self.assembly.expect_answer_to(number);
        self.assembly.receive(&mut self.end, patience)?;
        self.take_reply(reply);
        Ok(())
    }

    /// Sends `request` if that needs no waiting; false if the last one has not been taken by the server. Never
    /// blocks; [`Client::try_reply`] fetches the reply. A reply to an earlier request is given up.
    ///
    /// # Errors
    ///
    /// The server left, or the request is longer than the capacity.
    pub fn try_request(&mut self, request: &[u8]) -> Result<bool, ChannelError> {
        self.forget_stale_reply();
        let sent = self.end.try_send(request, 0, "try_request")?;
        sent.inspect(|number| self.assembly.expect_answer_to(*number));
        Ok(sent.is_some())
    }

    /// The reply to the last request if all of it is there. Never blocks.
    ///
    /// # Errors
    ///
    /// The server left; a death is seen only by the calls that block.
    pub fn try_reply(&mut self) -> Result<Option<Vec<u8>>, ChannelError> {
        let complete = self.assembly.try_receive(&mut self.end, "try_reply")?;
        let mut reply = Vec::new();
        Ok(complete.then(|| {
            self.take_reply(&mut reply);
            reply
        }))
    }

    /// Whatever is there, or half there, answers an earlier request.
    fn forget_stale_reply(&mut self) {
        self.assembly.forget();
        self.end.discard_chunk();
    }

    /// The complete reply; another one to the same request would not be expected.
    fn take_reply(&mut self, reply: &mut Vec<u8>) {
        self.assembly.finish_into(reply);
        self.assembly.expect_answer_to(0);
    }

    /// Most bytes that one chunk carries.
    pub fn capacity(&self) -> usize {
        self.end.capacity()
    }
}

/// The end that answers.
#[derive(Debug)]
pub struct Server {
    end: End,
    assembly: Assembly,
    /// The request that was received last. Its memory is used again.
    request: Vec<u8>,
    /// A departure that a reply has come across: for the next call that receives.
    unreported: Option<ChannelError>,
}

impl Server {
    pub(super) fn attach(object: Object) -> Result<Self, ChannelError> {
        let end = End::attach(object, Role::Server)?;
        Ok(Self { end, assembly: Assembly::default(), request: Vec::new(), unreported: None })
    }

    /// Blocks until a request is there and returns it; it is answered by [`Request::reply`].
    ///
    /// # Errors
    ///
    /// The client left or died and all its complete requests have been received: reported once, after which the
    /// next call waits for a successor. [`ChannelError::Abandoned`] if a request ended halfway.
    pub fn receive(&mut self) -> Result<Request<'_>, ChannelError> {
        self.report()?;
        self.assembly.receive(&mut self.end, &Patience::endless("receive"))?;
        Ok(self.take_request())
    }

    /// [`Server::receive`] that gives up after `limit`.
    ///
    /// # Errors
    ///
    /// As [`Server::receive`], and [`ChannelError::Timeout`].
    pub fn receive_timeout(&mut self, limit: Duration) -> Result<Request<'_>, ChannelError> {
        self.report()?;
        self.assembly.receive(&mut self.end, &Patience::limited("receive", limit))?;
        Ok(self.take_request())
    }

    /// A request if all of it is there. Never blocks.
    ///
    /// # Errors
    ///
    /// As [`Server::receive`], but a death is seen only by the calls that block.
    pub fn try_receive(&mut self) -> Result<Option<Request<'_>>, ChannelError> {
        self.report()?;
        let complete = self.assembly.try_receive(&mut self.end, "try_receive")?;
        Ok(complete.then(|| self.take_request()))
    }

    fn report(&mut self) -> Result<(), ChannelError> {
        self.unreported.take().map_or(Ok(()), Err)
    }

    fn take_request(&mut self) -> Request<'_> {
        let envelope = self.assembly.finish_into(&mut self.request);
        let number = envelope.map_or(0, |envelope| envelope.message);
        let Self { request, end, unreported, .. } = self;
        Request { bytes: request, number, end, unreported }
    }

    /// Answers requests with what `answer` makes of them until the client is gone, one way or the other. Returns
    /// how many it answered. Blocks; call it again to wait for the next client.
    ///
    /// # Errors
    ///
    /// All but the client's departure.
    pub fn serve(&mut self, mut answer: impl FnMut(&[u8]) -> Vec<u8>) -> Result<u64, ChannelError> {
        let mut answered = 0;
        loop {
            let step = self.receive().and_then(|request| {
                let reply = answer(&request);
                request.reply(&reply)
            });
            match step {
                Ok(()) => answered += 1,
                Err(ChannelError::PeerGone { .. }) => return Ok(answered),
                // The client's timeout in the middle of a long request: its next one is intact.
                Err(ChannelError::Abandoned { .. }) => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Most bytes that one chunk carries.
    pub fn capacity(&self) -> usize {
        self.end.capacity()
    }
}

/// A request that has been received: dereferences to its bytes, and is answered once.
///
/// Dropping it without a reply leaves the client waiting, until its time is over or the server leaves.
#[derive(Debug)]
pub struct Request<'a> {
    bytes: &'a [u8],
    number: u64,
    end: &'a mut End,
    unreported: &'a mut Option<ChannelError>,
}

impl Request<'_> {
    /// Answers. Blocks while an earlier reply has not been taken and, if the reply is longer than the capacity,
    /// until all of it but the last chunk has.
    ///
    /// # Errors
    ///
    /// The client left or died.
    pub fn reply(self, reply: &[u8]) -> Result<(), ChannelError> {
        self.answer(reply, &Patience::endless("reply"))
    }

    /// [`Request::reply`] that gives up after `limit`. The client discards what it had received by then.
    ///
    /// # Errors
    ///
    /// As [`Request::reply`], and [`ChannelError::Timeout`].
    pub fn reply_timeout(self, reply: &[u8], limit: Duration) -> Result<(), ChannelError> {
        self.answer(reply, &Patience::limited("reply", limit))
    }

    /// The departure of a predecessor is news to this end when the request of the successor was there before it looked:
    /// that client waits for its answer. If the request was the predecessor's after all, the successor discards the
    /// answer by its number.
    fn answer(self, reply: &[u8], patience: &Patience) -> Result<(), ChannelError> {
        match self.end.send(reply, self.number, patience) {
            Err(error @ ChannelError::PeerGone { how: Departure::Replaced, .. }) => {
                *self.unreported = Some(error);
                self.end.send(reply, self.number, patience).map(drop)
            }
            sent => sent.map(drop),
        }
    }

    /// The bytes, for keeping.
    pub fn to_vec(&self) -> Vec<u8> {
        self.bytes.to_vec()
    }
}

impl std::ops::Deref for Request<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.bytes
    }
}
