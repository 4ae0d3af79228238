//! Signals that arrive at the launcher through a signalfd.

use std::os::fd::AsFd;

use rustix::io;
use rustix::process::Signal;

/// A signal, and whether a process sent it or the kernel.
///
/// What the terminal delivers (Ctrl-C, Ctrl-Z, hang-up) comes from the kernel and goes to the whole foreground
/// process group, ranks included: forwarding it would deliver it twice.
#[derive(Debug, Clone, Copy)]
pub(super) struct Arrival {
    pub(super) signal: Signal,
    pub(super) from_process: bool,
}

/// Size of `struct signalfd_siginfo`.
const RECORD_BYTES: usize = 128;

/// The signals that have arrived. The descriptor must not block.
pub(super) fn receive(signalfd: impl AsFd) -> Vec<Arrival> {
    let mut bytes = [0; 16 * RECORD_BYTES];
    match io::read(signalfd, &mut bytes) {
        Ok(count) => bytes[..count].chunks_exact(RECORD_BYTES).filter_map(decode).collect(),
        Err(_) => Vec::new(),
    }
}

fn decode(record: &[u8]) -> Option<Arrival> {
    let word = |offset: usize| Some(i32::from_ne_bytes(record.get(offset..offset + 4)?.try_into().ok()?));
    let (number, code) = (word(0)?, word(8)?);
    // SI_USER is 0, SI_QUEUE and SI_TKILL are negative; codes above 0 are the kernel's.
    Some(Arrival { signal: Signal::from_named_raw(number)?, from_process: code <= 0 })
}
