//! Shared memory objects: open, unlink, map, reserve, and how much room there is.
//!
//! # Safety
//!
//! Trusted for the pairing of `mmap` and `munmap` (a [`Mapping`] owns its range) and for giving the kernel
//! pointers to live locals only.
#![allow(unsafe_code)]

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::ops::Range;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::ptr::{self, NonNull};

/// Creates a shared memory object of size 0 for its owner only; fails if the name exists (`shm_open(3)`).
pub(crate) fn create(name: &str) -> io::Result<File> {
    open_with(name, libc::O_RDWR | libc::O_CREAT | libc::O_EXCL)
}

/// Opens an existing shared memory object for reading and writing (`shm_open(3)`).
pub(crate) fn open(name: &str) -> io::Result<File> {
    open_with(name, libc::O_RDWR)
}

fn open_with(name: &str, flags: libc::c_int) -> io::Result<File> {
    let name = CString::new(name)?;
    // SAFETY: the name is NUL-terminated and outlives the call.
    let fd = unsafe { libc::shm_open(name.as_ptr(), flags, 0o600 as libc::c_uint) };
    own(fd)
}

/// Removes the name of a shared memory object; mappings and descriptors stay (`shm_unlink(3)`).
pub(crate) fn unlink(name: &str) -> io::Result<()> {
    let name = CString::new(name)?;
    // SAFETY: the name is NUL-terminated and outlives the call.
    match unsafe { libc::shm_unlink(name.as_ptr()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Creates an object of size 0 in the directory of POSIX shared memory that has no name at any time, and cannot be given
/// one (`O_TMPFILE` in `open(2)`).
#[cfg(target_os = "linux")]
pub(crate) fn create_nameless() -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    let flags = libc::O_TMPFILE | libc::O_EXCL;
    File::options().read(true).write(true).mode(0o600).custom_flags(flags).open("/dev/shm")
}

/// Creates anonymous memory that a descriptor names (`memfd_create(2)`); the name is only for `/proc`.
#[cfg(target_os = "linux")]
pub(crate) fn create_anonymous(name: &str) -> io::Result<File> {
    let name = CString::new(name)?;
    // SAFETY: the name is NUL-terminated and outlives the call.
    let fd = unsafe { libc::memfd_create(name.as_ptr(), libc::MFD_CLOEXEC) };
    own(fd)
}

/// There are no anonymous descriptors here.
#[cfg(not(target_os = "linux"))]
pub(crate) fn create_anonymous(_name: &str) -> io::Result<File> {
    Err(io::ErrorKind::Unsupported.into())
}

/// The user on whose behalf this process acts.
pub(crate) fn effective_user() -> u32 {
    // SAFETY: takes nothing, cannot fail.
    unsafe { libc::geteuid() }
}

fn own(fd: RawFd) -> io::Result<File> {
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call that returned it has just opened it, so nobody else owns it.
    let owned = unsafe { OwnedFd::from_raw_fd(fd) };
    Ok(File::from(owned))
}

/// Bytes reserved per call: 16 MiB take a few milliseconds, so that even a frequent timer signal, which makes
/// the call start again, lets it finish.
#[cfg(target_os = "linux")]
const RESERVE_STEP: usize = 16 << 20;

/// Backs `range` of the object with memory, so that touching it cannot fail (`posix_fallocate(3)`).
///
/// Retries on signals. After a failure a part may stay reserved.
#[cfg(target_os = "linux")]
pub(crate) fn reserve(file: &File, range: Range<usize>) -> io::Result<()> {
    for start in range.clone().step_by(RESERVE_STEP) {
        reserve_step(file, start..range.end.min(start + RESERVE_STEP))?;
    }
    Ok(())
}

#[cfg(target_os = "linux")]
fn reserve_step(file: &File, range: Range<usize>) -> io::Result<()> {
    let offset = to_offset(range.start)?;
    let length = to_offset(range.len())?;
    loop {
        // SAFETY: plain integers; the descriptor is open.
        match unsafe { libc::posix_fallocate(file.as_raw_fd(), offset, length) } {
            0 => return Ok(()),
            libc::EINTR => {}
            error => return Err(io::Error::from_raw_os_error(error)),
        }
    }
}

/// Nothing to do: memory objects of this system are backed when they are sized.
#[cfg(not(target_os = "linux"))]
pub(crate) fn reserve(_file: &File, _range: Range<usize>) -> io::Result<()> {
    Ok(())
}

#[cfg(target_os = "linux")]
fn to_offset(value: usize) -> io::Result<libc::off_t> {
    libc::off_t::try_from(value).map_err(|_| io::Error::from_raw_os_error(libc::EFBIG))
}

/// Bytes of the file system that holds the object which are free to this user; `None` if it has no bound.
pub(crate) fn free_space(file: &File) -> io::Result<Option<u64>> {
    let mut answer = MaybeUninit::<libc::statvfs>::uninit();
    // SAFETY: `answer` is a local of the right type, only written by the call.
    if unsafe { libc::fstatvfs(file.as_raw_fd(), answer.as_mut_ptr()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call succeeded, so it filled the structure.
    let answer = unsafe { answer.assume_init() };
    let unbounded = answer.f_blocks == 0;
    #[allow(clippy::useless_conversion, reason = "the fields are narrower on some systems")]
    let free = u64::from(answer.f_bavail).saturating_mul(u64::from(answer.f_frsize));
    Ok((!unbounded).then_some(free))
}

/// A shared, writable mapping of a whole object.
#[derive(Debug)]
pub(crate) struct Mapping {
    base: NonNull<u8>,
    size: usize,
}

// SAFETY: the mapping belongs to the process, not to a thread; access to its bytes is governed by those who
// take pointers into it.
unsafe impl Send for Mapping {}
// SAFETY: as above; the handle itself never changes.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps the first `size` bytes of the object (`mmap(2)`).
    pub(crate) fn new(file: &File, size: usize) -> io::Result<Self> {
        let access = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice touches no existing memory.
        let base =
            unsafe { libc::mmap(ptr::null_mut(), size, access, libc::MAP_SHARED, file.as_raw_fd(), 0) };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let base = NonNull::new(base.cast()).ok_or(io::ErrorKind::InvalidData)?;
        Ok(Self { base, size })
    }

    /// The first byte; page-aligned.
    pub(crate) fn base(&self) -> NonNull<u8> {
        self.base
    }

    /// Length in bytes.
    pub(crate) fn size(&self) -> usize {
        self.size
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: this is the range that `new` mapped, and borrows into it have ended with `self`.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.size) };
    }
}
