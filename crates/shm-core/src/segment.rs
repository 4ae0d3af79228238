//! Named POSIX shared memory with a checked header.
//!
//! ```text
//! offset  size  field
//!      0     8  magic      "ranksSHM", the same bytes on every machine
//!      8     4  version    of this layout
//!     12     4  kind       what the segment is used for, chosen by its creator
//!     16     8  size       of the whole object in bytes
//!     24     4  ready      0 until the creator is done, then 1
//!     28     4  reserved   zero
//!     32     8  layout     fingerprint of how the user's data is laid out
//!     40    24  reserved   zero
//!     64        the user's data
//! ```
//!
//! 1. An object is sized once, by its creator, and never again.
//! 2. `ready` becomes 1 after everything else in the header was written (`SYNC segment-ready`).
//! 3. A page is reserved before it is touched for the first time: touching a page that the system cannot back
//!    kills the process, while reserving it is an error that can be handled. For the same reason a header is
//!    checked by reading the object, before it is mapped.
//! 4. A segment that is created but fails halfway is unlinked again.
//!
//! # Safety
//!
//! Trusted for references into the mapping: in bounds, aligned, to types that are valid for any bytes and that
//! tolerate other processes' writes ([`SharedLayout`]).
#![allow(unsafe_code)]

use std::fmt;
use std::fs::File;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::ptr::NonNull;
use std::sync::atomic::{self, Ordering};

use crate::error::SegmentError;
use crate::fingerprint::{Fingerprint, FixedLayout};
use crate::fixed_layout;
use crate::limit;
use crate::sys::shm::{self, Mapping};

const MAGIC: u64 = u64::from_le_bytes(*b"ranksSHM");
const VERSION: u32 = 2;
const READY: u32 = 1;
const PAGE: usize = 4096;
/// From here on a reservation looks at the control group's limit: reading it takes longer than reserving less.
const LIMIT_CHECK_FROM: usize = 1 << 20;

#[repr(C, align(64))]
struct Header {
    magic: atomic::AtomicU64,
    version: atomic::AtomicU32,
    kind: atomic::AtomicU32,
    size: atomic::AtomicU64,
    ready: atomic::AtomicU32,
    reserved: atomic::AtomicU32,
    layout: atomic::AtomicU64,
}

const _: () = {
    assert!(size_of::<Header>() == Segment::DATA_OFFSET);
    assert!(std::mem::offset_of!(Header, version) == 8);
    assert!(std::mem::offset_of!(Header, kind) == 12);
    assert!(std::mem::offset_of!(Header, size) == 16);
    assert!(std::mem::offset_of!(Header, ready) == 24);
    assert!(std::mem::offset_of!(Header, layout) == 32);
};

/// What a segment is used for, and how what lies in it is laid out: the same for all who open it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Format {
    /// What it is used for, a number of its creator's choice.
    pub kind: u32,
    /// How that is laid out. Different builds of a program may have different fingerprints of one kind.
    pub layout: Fingerprint,
}

impl Format {
    /// Of segments that hold values of type `T` and nothing else that both sides have to agree on.
    pub const fn of<T: FixedLayout>(kind: u32) -> Self {
        Self { kind, layout: T::FINGERPRINT }
    }
}

/// Types that may lie in memory which other processes write.
///
/// # Safety
///
/// - Any bytes are a valid value, zeroes included.
/// - Every field that another process may write is an atomic or inside an `UnsafeCell`.
/// - The layout is fixed (`repr(C)` or `repr(transparent)`) and the same in all processes.
/// - There are no pointers, references or other values that mean something in one process only.
pub unsafe trait SharedLayout: FixedLayout {}

// SAFETY: an atomic integer: any bytes are valid, and concurrent writes are what it is for.
unsafe impl SharedLayout for atomic::AtomicU8 {}
// SAFETY: as above.
unsafe impl SharedLayout for atomic::AtomicU32 {}
// SAFETY: as above.
unsafe impl SharedLayout for atomic::AtomicU64 {}
// SAFETY: an array adds nothing to its elements.
unsafe impl<T: SharedLayout, const N: usize> SharedLayout for [T; N] {}
fixed_layout!(Header { magic, version, kind, size, ready, reserved, layout });
// SAFETY: repr(C), atomics only.
unsafe impl SharedLayout for Header {}
// SAFETY: repr(C), an atomic and padding; only real atomics have this layout, so not in models.
#[cfg(not(loom))]
unsafe impl SharedLayout for crate::wait::Doorbell {}
// SAFETY: repr(transparent) around plain bytes in an `UnsafeCell`.
#[cfg(not(loom))]
unsafe impl SharedLayout for crate::sync::UnsafeCell<u8> {}

/// A name that is valid for segments and semaphores on every supported system: a slash and 1 to 30 bytes
/// without another slash (macOS allows 31 bytes in all).
///
/// ```
/// use shm_core::{SegmentError, SegmentName};
///
/// assert_eq!(SegmentName::new("/weather")?.as_str(), "/weather");
/// assert!(matches!(SegmentName::new("weather"), Err(SegmentError::InvalidName { .. })));
/// # Ok::<(), SegmentError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SegmentName(String);

impl SegmentName {
    /// The most bytes that a name may have, slash included.
    pub const MAX_BYTES: usize = 31;

    /// Checks `name`.
    ///
    /// # Errors
    ///
    /// [`SegmentError::InvalidName`] says which rule it breaks.
    pub fn new(name: &str) -> Result<Self, SegmentError> {
        let rest = name.strip_prefix('/').unwrap_or_default();
        let problem = match () {
            () if !name.starts_with('/') => "it does not begin with a slash",
            () if rest.is_empty() || rest == "." || rest == ".." => "nothing usable follows the slash",
            () if rest.contains('/') => "it has a second slash",
            () if rest.contains('\0') => "it has a NUL byte",
            () if name.len() > Self::MAX_BYTES => "it is longer than 31 bytes",
            () => return Ok(Self(name.to_owned())),
        };
        Err(SegmentError::InvalidName { name: name.to_owned(), problem })
    }

    /// A name that begins with `prefix` (without slash) and ends in 12 random hexadecimal digits.
    ///
    /// # Errors
    ///
    /// [`SegmentError::InvalidName`] if the prefix has more than 17 bytes, a slash or a NUL.
    pub fn random(prefix: &str) -> Result<Self, SegmentError> {
        let random = RandomState::new().build_hasher().finish() & 0xffff_ffff_ffff;
        Self::new(&format!("/{prefix}.{random:012x}"))
    }

    /// The name with its slash.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SegmentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A shared memory object, mapped as a whole, with its descriptor. Dropping it unmaps and closes; the name, if
/// it has one, stays until [`Segment::unlink`].
///
/// ```
/// use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
/// use shm_core::{Format, Segment, SegmentError, SegmentName};
///
/// let name = SegmentName::random("doc")?;
/// let format = Format::of::<AtomicU32>(1);
/// let mine = Segment::create(&name, 4096, format)?;
/// let again = Segment::create(&name, 4096, format);
/// let yours = Segment::open(&name, format)?;
/// Segment::unlink(&name)?;
/// assert!(matches!(again, Err(SegmentError::Exists { size: 4096, .. })));
///
/// mine.at::<AtomicU32>(Segment::DATA_OFFSET).store(7, Relaxed);
/// assert_eq!(yours.at::<AtomicU32>(Segment::DATA_OFFSET).load(Relaxed), 7);
/// # Ok::<(), SegmentError>(())
/// ```
#[derive(Debug)]
pub struct Segment {
    mapping: Mapping,
    file: File,
    name: String,
}

impl Segment {
    /// Where the user's data begins, in bytes: the header is before it. A multiple of a cache line.
    pub const DATA_OFFSET: usize = 64;

    /// Creates a segment of `size` bytes (header included) that only this user may open, and reserves its first
    /// page. What lies beyond is to be reserved before it is touched: see [`Segment::reserve`].
    ///
    /// # Errors
    ///
    /// The name exists, the size is impossible, there is no space for the header, or the system refused. No
    /// name is left behind then.
    pub fn create(name: &SegmentName, size: usize, format: Format) -> Result<Self, SegmentError> {
        let file = shm::create(name.as_str()).map_err(|error| create_failure(name, size, error))?;
        Self::initialise(file, name.as_str(), size, format).inspect_err(|_| {
            // Nothing to add if this fails too: the first error says more.
            let _ = shm::unlink(name.as_str());
        })
    }

    /// Creates a segment that only its descriptor leads to: nothing is left behind however its users die.
    ///
    /// An object in `/dev/shm` that has no name at any time (elsewhere than on Linux: a POSIX object with a random name
    /// that is unlinked at once); or anonymous memory (`memfd_create`) if there is no `/dev/shm`, or if fewer than
    /// `size` bytes are free in it. A container's 64 MB are such a case.
    ///
    /// # Errors
    ///
    /// The prefix is not valid, the size is impossible, there is no space for the header, or the system refused.
    pub fn create_unnamed(prefix: &str, size: usize, format: Format) -> Result<Self, SegmentError> {
        let file = match Self::create_nameless_object(prefix)? {
            Some(file) if has_room(&file, size) => file,
            _ => shm::create_anonymous(prefix).map_err(|e| failure("memfd_create", prefix, size, e))?,
        };
        Self::initialise(file, prefix, size, format)
    }

    /// An object without a name in this system's shared memory; `None` if that cannot be used.
    #[cfg(target_os = "linux")]
    fn create_nameless_object(prefix: &str) -> Result<Option<File>, SegmentError> {
        // Where it cannot be used it becomes a name.
        SegmentName::random(prefix)?;
        Ok(shm::create_nameless().ok())
    }

    /// As above, with a name between two system calls.
    #[cfg(not(target_os = "linux"))]
    fn create_nameless_object(prefix: &str) -> Result<Option<File>, SegmentError> {
        loop {
            let name = SegmentName::random(prefix)?;
            match shm::create(name.as_str()) {
                Ok(file) => {
                    shm::unlink(name.as_str()).map_err(|e| failure("shm_unlink", name.as_str(), 0, e))?;
                    return Ok(Some(file));
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(_) => return Ok(None),
            }
        }
    }

    /// Sizes an object of size 0 and writes its header. The caller is the only one who does so.
    pub(crate) fn initialise(
        file: File,
        name: &str,
        size: usize,
        format: Format,
    ) -> Result<Self, SegmentError> {
        if size <= Self::DATA_OFFSET || i64::try_from(size).is_err() {
            return Err(SegmentError::InvalidSize { name: name.to_owned(), size });
        }
        file.set_len(size as u64).map_err(|e| failure("ftruncate", name, size, e))?;
        let mapping = Mapping::new(&file, size).map_err(|e| failure("mmap", name, size, e))?;
        let segment = Self { mapping, file, name: name.to_owned() };
        segment.reserve(0..Self::DATA_OFFSET)?;
        segment.write_header(format);
        Ok(segment)
    }

    fn write_header(&self, format: Format) {
        let header: &Header = self.at(0);
        header.magic.store(MAGIC, Ordering::Relaxed);
        header.version.store(VERSION, Ordering::Relaxed);
        header.kind.store(format.kind, Ordering::Relaxed);
        header.layout.store(format.layout.to_bits(), Ordering::Relaxed);
        header.size.store(self.size() as u64, Ordering::Relaxed);
        // SYNC segment-ready
        header.ready.store(READY, Ordering::Release);
    }

    /// Opens the segment `name` after checking its header.
    ///
    /// # Errors
    ///
    /// There is no such name; it belongs to another user; its header is not complete yet; it is no segment, or one of
    /// another version, kind, layout or size; or the system refused.
    pub fn open(name: &SegmentName, format: Format) -> Result<Self, SegmentError> {
        Self::check_and_map(open_own(name)?, name.to_string(), format)
    }

    /// Maps the segment behind an inherited descriptor after checking its header.
    ///
    /// # Errors
    ///
    /// As [`Segment::open`]. A descriptor that is no shared memory fails one of the checks too.
    pub fn from_descriptor(fd: OwnedFd, format: Format) -> Result<Self, SegmentError> {
        let name = format!("of descriptor {}", std::os::fd::AsRawFd::as_raw_fd(&fd));
        Self::check_and_map(File::from(fd), name, format)
    }

    /// Checks the header of an object without mapping it; returns its size in bytes.
    #[cfg(all(target_os = "linux", not(loom)))]
    pub(crate) fn check(file: &File, name: &str, format: Format) -> Result<usize, SegmentError> {
        check_header(file, name, format)
    }

    pub(crate) fn check_and_map(file: File, name: String, format: Format) -> Result<Self, SegmentError> {
        let size = check_header(&file, &name, format)?;
        let mapping = Mapping::new(&file, size).map_err(|e| failure("mmap", &name, size, e))?;
        let segment = Self { mapping, file, name };
        // SYNC segment-ready: what the creator wrote before is visible from here on.
        segment.at::<Header>(0).ready.load(Ordering::Acquire);
        Ok(segment)
    }

    /// Removes the name. Mappings and descriptors keep working.
    ///
    /// # Errors
    ///
    /// There is no such name, or the system refused.
    pub fn unlink(name: &SegmentName) -> Result<(), SegmentError> {
        shm::unlink(name.as_str()).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => SegmentError::Missing { name: name.to_string() },
            _ => failure("shm_unlink", name.as_str(), 0, error),
        })
    }

    /// Backs `range` (bytes, rounded outwards to pages) with memory, so that touching it cannot fail. What is
    /// reserved already stays as it is. Takes about a third of a millisecond per MiB; blocks no other process.
    ///
    /// # Errors
    ///
    /// [`SegmentError::NoSpace`] with the wanted and the free bytes, from the file system or, from 1 MiB on, the
    /// memory control group. A part of the range may be reserved then.
    ///
    /// # Panics
    ///
    /// If the range ends beyond the segment.
    pub fn reserve(&self, range: Range<usize>) -> Result<(), SegmentError> {
        assert!(range.start <= range.end && range.end <= self.size(), "{range:?} of {} bytes", self.size());
        let start = range.start / PAGE * PAGE;
        let end = range.end.next_multiple_of(PAGE).min(self.size());
        let wanted = (end - start) as u64;
        if end - start >= LIMIT_CHECK_FROM {
            self.check_limit(wanted)?;
        }
        shm::reserve(&self.file, start..end).map_err(|error| self.reserve_failure(wanted, error))
    }

    fn check_limit(&self, wanted: u64) -> Result<(), SegmentError> {
        match limit::free_bytes() {
            Some(free) if free < wanted => Err(SegmentError::NoSpace {
                name: self.name.clone(),
                wanted,
                free,
                place: "the memory control group".to_owned(),
                remedy: "raise the memory limit of the container or service, or ask for less",
            }),
            _ => Ok(()),
        }
    }

    fn reserve_failure(&self, wanted: u64, error: io::Error) -> SegmentError {
        if error.raw_os_error() != Some(libc::ENOSPC) {
            return failure("posix_fallocate", &self.name, wanted as usize, error);
        }
        SegmentError::NoSpace {
            name: self.name.clone(),
            wanted,
            free: shm::free_space(&self.file).ok().flatten().unwrap_or(0),
            place: "shared memory (/dev/shm)".to_owned(),
            remedy: "remove what is not needed from /dev/shm, or enlarge it \
                     (mount -o remount,size=2G /dev/shm; in a container: --shm-size=2g)",
        }
    }

    /// Size of the whole object in bytes.
    pub fn size(&self) -> usize {
        self.mapping.size()
    }

    /// The descriptor, for handing it to a child process or taking locks.
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    #[cfg(all(target_os = "linux", not(loom)))]
    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// The first byte of the mapping; page-aligned.
    pub fn base(&self) -> NonNull<u8> {
        self.mapping.base()
    }

    /// The value of type `T` at `offset` bytes.
    ///
    /// # Panics
    ///
    /// If it is not within the segment or not aligned: callers take offsets from a layout of their own, or have
    /// checked them.
    pub fn at<T: SharedLayout>(&self, offset: usize) -> &T {
        &self.slice_at::<T>(offset, 1)[0]
    }

    /// `count` values of type `T` from `offset` bytes on.
    ///
    /// # Panics
    ///
    /// As [`Segment::at`].
    pub fn slice_at<T: SharedLayout>(&self, offset: usize, count: usize) -> &[T] {
        let length = size_of::<T>().checked_mul(count).expect("a length in memory");
        let start = self.bytes_at(offset, length).cast::<T>();
        assert!(start.is_aligned(), "offset {offset} is not aligned to {}", align_of::<T>());
        // SAFETY: in bounds and aligned as just checked; any bytes are a valid `T` that others may change
        // (SharedLayout); the mapping lives as long as `self`.
        unsafe { std::slice::from_raw_parts(start.as_ptr(), count) }
    }

    /// A pointer to `length` bytes from `offset` on. What may be done with it is the business of the protocol
    /// that owns the range.
    ///
    /// # Panics
    ///
    /// If they are not within the segment.
    pub fn bytes_at(&self, offset: usize, length: usize) -> NonNull<u8> {
        let end = offset.checked_add(length).filter(|end| *end <= self.size());
        assert!(end.is_some(), "{length} bytes at {offset} of a segment of {} bytes", self.size());
        // SAFETY: `offset` is within the mapping, or one past its end, as just checked.
        unsafe { self.base().add(offset) }
    }
}

/// Opens the object behind a name, if it belongs to this user: anybody may create a name before its owner does.
pub(crate) fn open_own(name: &SegmentName) -> Result<File, SegmentError> {
    let file = shm::open(name.as_str()).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => SegmentError::Missing { name: name.to_string() },
        _ => failure("shm_open", name.as_str(), 0, error),
    })?;
    let owner = file.metadata().map_err(|error| failure("fstat", name.as_str(), 0, error))?.uid();
    let user = shm::effective_user();
    match owner == user {
        true => Ok(file),
        false => Err(SegmentError::OtherUser { name: name.to_string(), owner, user }),
    }
}

/// Checks the header of an object without mapping it; returns its size in bytes.
fn check_header(file: &File, name: &str, format: Format) -> Result<usize, SegmentError> {
    let owned = || name.to_owned();
    let actual = file.metadata().map_err(|e| failure("fstat", name, 0, e))?.len();
    if actual < Segment::DATA_OFFSET as u64 {
        return Err(SegmentError::NotReady { name: owned(), size: actual });
    }
    let ready = RawHeader::read(file, name)?.ready;
    // Read again: one read may see an early field before, and a late one after the creator wrote them.
    let RawHeader { magic: found, version, kind, size: stated, layout, .. } = RawHeader::read(file, name)?;
    match () {
        () if found != MAGIC && found != 0 => {
            Err(SegmentError::WrongMagic { name: owned(), found, expected: MAGIC })
        }
        () if ready != READY => Err(SegmentError::NotReady { name: owned(), size: actual }),
        () if found != MAGIC => Err(SegmentError::WrongMagic { name: owned(), found, expected: MAGIC }),
        () if version != VERSION => {
            Err(SegmentError::WrongVersion { name: owned(), found: version, expected: VERSION })
        }
        () if kind != format.kind => {
            Err(SegmentError::WrongKind { name: owned(), found: kind, expected: format.kind })
        }
        () if layout != format.layout => {
            Err(SegmentError::WrongLayout { name: owned(), found: layout, expected: format.layout })
        }
        () if stated != actual => Err(SegmentError::WrongSize { name: owned(), stated, actual }),
        () => {
            usize::try_from(actual).map_err(|_| SegmentError::InvalidSize { name: owned(), size: usize::MAX })
        }
    }
}

/// A copy of a header's fields.
struct RawHeader {
    magic: u64,
    version: u32,
    kind: u32,
    size: u64,
    ready: u32,
    layout: Fingerprint,
}

impl RawHeader {
    fn read(file: &File, name: &str) -> Result<Self, SegmentError> {
        let mut bytes = [0; Segment::DATA_OFFSET];
        file.read_exact_at(&mut bytes, 0).map_err(|e| failure("pread", name, bytes.len(), e))?;
        let word = |at: usize| u32::from_ne_bytes(bytes[at..at + 4].try_into().expect("four bytes"));
        let long = |at: usize| u64::from_ne_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
        Ok(Self {
            magic: long(0),
            version: word(8),
            kind: word(12),
            size: long(16),
            ready: word(24),
            layout: Fingerprint::from_bits(long(32)),
        })
    }
}

fn has_room(file: &File, size: usize) -> bool {
    !matches!(shm::free_space(file), Ok(Some(free)) if free < size as u64)
}

fn create_failure(name: &SegmentName, size: usize, error: io::Error) -> SegmentError {
    match error.kind() {
        io::ErrorKind::AlreadyExists => SegmentError::Exists { name: name.to_string(), size },
        _ => failure("shm_open (create)", name.as_str(), size, error),
    }
}

pub(crate) fn failure(operation: &'static str, name: &str, size: usize, source: io::Error) -> SegmentError {
    SegmentError::System { operation, name: name.to_owned(), size: size as u64, source }
}
