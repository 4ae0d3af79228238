//! The rank's side of the hand-over: from environment variables and inherited descriptors to a [`Job`] and a
//! rank, and back out again.
//!
//! [`attach`] happens once per process. It claims the rank's slot, so that a second process with the same
//! variables gets an error instead of the other's messages, and arms what makes an unexpected end visible: a
//! panic hook that records the message, an exit handler that notes that the process called `exit`, and below a
//! wrapper a thread that ends the process with its launcher.
//!
//! Without a launcher's variables the process becomes the only rank of a job of its own.

mod claim;
mod error;
mod hand_over;
mod hooks;
mod leave;

pub(crate) use claim::{Attachment, attach};
pub use error::AttachError;
#[cfg(fuzzing)]
pub(crate) use hand_over::read_environment;
pub(crate) use hooks::{hush_consequences, is_hushed, record_last_words};
pub(crate) use leave::{abort, abort_damaged, detach, fail, fail_with};
