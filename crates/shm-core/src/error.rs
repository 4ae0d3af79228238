//! What can go wrong with segments and bells: operation, name, sizes, what the system said, what to do.

use std::io;

use crate::fingerprint::Fingerprint;

/// Why a segment could not be created, opened, reserved or unlinked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SegmentError {
    /// The name is not valid on every supported system.
    #[error(
        "segment name {name:?}: {problem}\n\
         help: a name is a slash and 1 to 30 bytes without a slash or NUL, like \"/weather\""
    )]
    InvalidName {
        /// The name as given.
        name: String,
        /// Which rule it breaks.
        problem: &'static str,
    },
    /// The size cannot hold the header, or exceeds what a file can have.
    #[error(
        "segment {name}: a size of {size} bytes is not possible\n\
         help: ask for more than {header} bytes (the header) and less than 8 EiB", header = crate::Segment::DATA_OFFSET
    )]
    InvalidSize {
        /// Name of the segment.
        name: String,
        /// The size in bytes as given.
        size: usize,
    },
    /// Exclusive creation found the name in use.
    #[error(
        "segment {name}: cannot create it with {size} bytes: the name exists\n\
         help: choose another name, or unlink this one if the program that made it is gone"
    )]
    Exists {
        /// Name of the segment.
        name: String,
        /// Wanted size in bytes.
        size: usize,
    },
    /// There is no segment of that name.
    #[error(
        "segment {name}: cannot open it: there is no such name\n\
         help: start the program that creates it first, and compare the spelling"
    )]
    Missing {
        /// Name of the segment.
        name: String,
    },
    /// The object belongs to another user, who could read all that is written to it, change it, and cut it short.
    #[error(
        "segment {name}: it belongs to user {owner}, and this process acts for user {user}\n\
         help: choose another name, or run both programs as the same user"
    )]
    OtherUser {
        /// Name of the segment.
        name: String,
        /// The number of the user who owns it.
        owner: u32,
        /// The number of the user on whose behalf this process acts.
        user: u32,
    },
    /// The object has no complete header: its creator is still at work, or died before it was done.
    #[error(
        "segment {name}: its header is not complete (object of {size} bytes)\n\
         help: try again in a moment; if it stays so, its creator died, and the name can be unlinked"
    )]
    NotReady {
        /// Name of the segment.
        name: String,
        /// Size of the object in bytes.
        size: u64,
    },
    /// The object begins with something else than a segment's header.
    #[error(
        "segment {name}: it begins with {found:#018x}, a segment begins with {expected:#018x}\n\
         help: the name belongs to another program; choose a different one"
    )]
    WrongMagic {
        /// Name of the segment.
        name: String,
        /// First eight bytes of the object.
        found: u64,
        /// What they should be.
        expected: u64,
    },
    /// The segment was made by another version of this library.
    #[error(
        "segment {name}: it has layout version {found}, this program knows version {expected}\n\
         help: build both programs with the same version of shm-core"
    )]
    WrongVersion {
        /// Name of the segment.
        name: String,
        /// Version in the header.
        found: u32,
        /// Version of this library.
        expected: u32,
    },
    /// The segment is of this kind, but another build has laid it out.
    #[error(
        "segment {name}: it is laid out as {found}, this program knows {expected}: another build made it\n\
         help: build all programs that use it from the same sources, with the same features"
    )]
    WrongLayout {
        /// Name of the segment.
        name: String,
        /// Fingerprint in the header.
        found: Fingerprint,
        /// Fingerprint of this program's layout.
        expected: Fingerprint,
    },
    /// The segment holds something else than the opener wants.
    #[error(
        "segment {name}: it is of kind {found:#010x}, wanted is kind {expected:#010x}\n\
         help: the name belongs to a segment with another use; choose a different one"
    )]
    WrongKind {
        /// Name of the segment.
        name: String,
        /// Kind in the header.
        found: u32,
        /// Kind that the opener asked for.
        expected: u32,
    },
    /// The object is shorter or longer than its header says.
    #[error(
        "segment {name}: its header says {stated} bytes, the object has {actual}\n\
         help: something has resized it; unlink it and create it again"
    )]
    WrongSize {
        /// Name of the segment.
        name: String,
        /// Size in the header in bytes.
        stated: u64,
        /// Size of the object in bytes.
        actual: u64,
    },
    /// There is not enough memory for a range.
    #[error(
        "segment {name}: cannot reserve {wanted} bytes: {free} bytes are free in {place}\nhelp: {remedy}"
    )]
    NoSpace {
        /// Name of the segment.
        name: String,
        /// Bytes that were to be reserved.
        wanted: u64,
        /// Bytes that are free.
        free: u64,
        /// Which bound was met.
        place: String,
        /// What to do.
        remedy: &'static str,
    },
    /// The system refused an operation for another reason.
    #[error("segment {name}: {operation} failed for {size} bytes: {source}\nhelp: {}", remedy(source))]
    System {
        /// The failed call.
        operation: &'static str,
        /// Name of the segment.
        name: String,
        /// Size in bytes that the operation was about; 0 if none.
        size: u64,
        /// What the system said.
        source: io::Error,
    },
}

/// Why a bell could not be created, opened or unlinked. Only the named-semaphores build returns it.
#[derive(Debug, thiserror::Error)]
#[error("semaphore {name}: {operation} failed: {source}\nhelp: {}", remedy(source))]
pub struct BellError {
    /// The failed call.
    pub operation: &'static str,
    /// Name of the semaphore.
    pub name: String,
    /// What the system said.
    pub source: io::Error,
}

fn remedy(error: &io::Error) -> &'static str {
    match error.raw_os_error() {
        Some(libc::EMFILE) => {
            "this process has too many open files: raise the limit (ulimit -n) or close some"
        }
        Some(libc::ENFILE) => "the system has too many open files: end some programs or raise fs.file-max",
        Some(libc::EACCES | libc::EPERM) => {
            "it belongs to another user, or /dev/shm is not writable for this one"
        }
        Some(libc::ENOMEM) => {
            "there is no address space or memory left: ask for less, or raise the limit (ulimit -v)"
        }
        Some(libc::ENOSYS | libc::EOPNOTSUPP) => {
            "this system has no POSIX shared memory: mount a tmpfs on /dev/shm"
        }
        Some(libc::EEXIST) => {
            "the name is in use: choose another, or unlink it if the program that made it is gone"
        }
        Some(libc::ENOENT) => {
            "the name does not exist: start the program that creates it first; on Linux /dev/shm must exist"
        }
        _ => "see the manual page of the call",
    }
}
