//! Segments: what is created, and every refusal with the values that it names.
#![cfg(not(loom))]

mod common;

use std::fs::{self, OpenOptions};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::process::Command;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use shm_core::{Fingerprint, Format, Segment, SegmentError, SegmentName};

const KIND: u32 = 0x7e57;
const FORMAT: Format = Format::of::<AtomicU64>(KIND);

/// A name that is unlinked at the end of the test, also of one that fails.
struct Named(SegmentName);

impl Named {
    fn new(label: &str) -> Self {
        Self(SegmentName::new(&common::name(label)).unwrap())
    }

    fn path(&self) -> String {
        format!("/dev/shm{}", self.0)
    }

    /// A valid segment with some bytes replaced.
    fn damaged(label: &str, offset: u64, bytes: &[u8]) -> Self {
        let named = Self::new(label);
        Segment::create(&named.0, 8192, FORMAT).unwrap();
        let file = OpenOptions::new().write(true).open(named.path()).unwrap();
        file.write_all_at(bytes, offset).unwrap();
        named
    }

    fn open_error(&self) -> SegmentError {
        Segment::open(&self.0, FORMAT).expect_err("the damage is noticed")
    }
}

impl Drop for Named {
    fn drop(&mut self) {
        let _ = Segment::unlink(&self.0);
    }
}

#[test]
fn both_sides_see_the_same_bytes_and_only_the_owner_may_open_it() {
    let named = Named::new("same");
    let size = 3 * 4096 + 5;
    let mine = Segment::create(&named.0, size, FORMAT).unwrap();
    let facts = fs::metadata(named.path()).unwrap();
    assert_eq!((facts.permissions().mode() & 0o7777, facts.len()), (0o600, size as u64));
    mine.reserve(0..size).unwrap();
    let yours = Segment::open(&named.0, FORMAT).unwrap();
    assert_eq!((mine.size(), yours.size()), (size, size));
    mine.slice_at::<AtomicU32>(4096, 8)[7].store(77, Relaxed);
    assert_eq!(yours.at::<AtomicU32>(4096 + 28).load(Relaxed), 77);
    drop(mine);
    assert_eq!(yours.at::<AtomicU64>(Segment::DATA_OFFSET).load(Relaxed), 0);
}

#[test]
fn only_the_reserved_part_takes_memory() {
    let named = Named::new("sparse");
    let segment = Segment::create(&named.0, 1 << 30, FORMAT).unwrap();
    let kib = || std::os::unix::fs::MetadataExt::blocks(&fs::metadata(named.path()).unwrap()) / 2;
    assert_eq!(kib(), 4);
    segment.reserve(100_000..200_000).unwrap();
    assert_eq!(kib(), 4 + (200_704 - 98_304) / 1024);
}

#[test]
fn names_that_some_system_refuses_are_refused_here() {
    let longest = format!("/{}", "x".repeat(30));
    assert_eq!(SegmentName::new(&longest).unwrap().as_str(), longest);
    for bad in ["", "name", "/", "/a/b", "/a\0b", "/..", &format!("{longest}x")] {
        assert!(
            matches!(SegmentName::new(bad), Err(SegmentError::InvalidName { name, .. }) if name == bad),
            "{bad:?}"
        );
    }
    let random = SegmentName::random("seventeen-letters").unwrap();
    assert_ne!(random, SegmentName::random("seventeen-letters").unwrap());
    assert_eq!(random.as_str().len(), SegmentName::MAX_BYTES);
    assert!(SegmentName::random(&"x".repeat(18)).is_err());
}

#[test]
fn creation_is_exclusive_and_says_so() {
    let named = Named::new("excl");
    let _first = Segment::create(&named.0, 4096, FORMAT).unwrap();
    let error = Segment::create(&named.0, 8192, FORMAT).unwrap_err();
    assert!(matches!(&error, SegmentError::Exists { name, size: 8192 } if *name == named.0.as_str()));
    let text = error.to_string();
    assert!(text.contains(named.0.as_str()) && text.contains("8192") && text.contains("help: "), "{text}");
    Segment::open(&named.0, FORMAT).expect("the first one is untouched");
}

#[test]
fn impossible_sizes_are_refused_and_leave_no_name() {
    let named = Named::new("size");
    for size in [0, Segment::DATA_OFFSET, usize::MAX] {
        let error = Segment::create(&named.0, size, FORMAT).unwrap_err();
        assert!(matches!(error, SegmentError::InvalidSize { size: named, .. } if named == size), "{error}");
    }
    let error = Segment::create(&named.0, 1 << 60, FORMAT).unwrap_err();
    assert!(matches!(error, SegmentError::System { size, .. } if size == 1 << 60), "{error}");
    assert!(matches!(Segment::open(&named.0, FORMAT), Err(SegmentError::Missing { .. })));
}

#[test]
fn a_missing_name_is_named() {
    let named = Named::new("missing");
    assert!(
        matches!(Segment::open(&named.0, FORMAT), Err(SegmentError::Missing { name }) if name == named.0.as_str())
    );
    assert!(matches!(Segment::unlink(&named.0), Err(SegmentError::Missing { .. })));
}

#[test]
fn foreign_and_damaged_headers_are_refused_with_both_values() {
    let error = Named::damaged("magic", 0, b"somebody").open_error();
    assert!(
        matches!(error, SegmentError::WrongMagic { found, .. } if found == u64::from_ne_bytes(*b"somebody"))
    );
    let error = Named::damaged("version", 8, &99_u32.to_ne_bytes()).open_error();
    assert!(matches!(error, SegmentError::WrongVersion { found: 99, expected: 2, .. }));
    let error = Named::damaged("kind", 12, &5_u32.to_ne_bytes()).open_error();
    assert!(matches!(error, SegmentError::WrongKind { found: 5, expected: KIND, .. }));
    let error = Named::damaged("layout", 32, &7_u64.to_ne_bytes()).open_error();
    let (seven, known) = (Fingerprint::from_bits(7), FORMAT.layout);
    assert!(
        matches!(error, SegmentError::WrongLayout { found, expected, .. } if (found, expected) == (seven, known))
    );
    assert!(error.to_string().contains("0000000000000007") && error.to_string().contains("same sources"));
    let error = Named::damaged("stated", 16, &1_u64.to_ne_bytes()).open_error();
    assert!(matches!(error, SegmentError::WrongSize { stated: 1, actual: 8192, .. }));
    let error = Named::damaged("ready", 24, &0_u32.to_ne_bytes()).open_error();
    assert!(matches!(error, SegmentError::NotReady { size: 8192, .. }));
}

#[test]
fn a_truncated_object_is_refused_and_not_touched() {
    for (length, complete) in [(0, false), (63, false), (64, true), (4096, true)] {
        let named = Named::damaged("short", 0, &[]);
        OpenOptions::new().write(true).open(named.path()).unwrap().set_len(length).unwrap();
        match named.open_error() {
            SegmentError::WrongSize { stated: 8192, actual, .. } => assert!(complete && actual == length),
            SegmentError::NotReady { size, .. } => assert!(!complete && size == length),
            error => panic!("{error}"),
        }
    }
}

#[test]
fn a_descriptor_leads_to_a_segment_without_a_name() {
    let mine = Segment::create_unnamed("nameless", 8192, FORMAT).unwrap();
    mine.at::<AtomicU64>(64).store(5, Relaxed);
    let descriptor = mine.descriptor().try_clone_to_owned().unwrap();
    let yours = Segment::from_descriptor(descriptor, FORMAT).unwrap();
    assert_eq!(yours.at::<AtomicU64>(64).load(Relaxed), 5);
    let again = yours.descriptor().try_clone_to_owned().unwrap();
    assert!(matches!(
        Segment::from_descriptor(again, Format { kind: 1, ..FORMAT }),
        Err(SegmentError::WrongKind { found: KIND, .. })
    ));
    let (_reader, pipe) = std::io::pipe().unwrap();
    assert!(Segment::from_descriptor(pipe.as_fd().try_clone_to_owned().unwrap(), FORMAT).is_err());
}

/// Whoever is killed at any instruction leaves no name that way.
#[test]
#[cfg(target_os = "linux")]
fn what_is_nameless_has_no_name_at_any_time() {
    use rustix::fs::inotify::{CreateFlags, ReadFlags, Reader, WatchFlags, add_watch, init};
    let watch = init(CreateFlags::NONBLOCK).unwrap();
    add_watch(&watch, "/dev/shm", WatchFlags::CREATE).unwrap();
    drop(Segment::create_unnamed("nowhere", 8192, FORMAT).unwrap());
    // That it would have been seen.
    let named = Named::new("somewhere");
    drop(Segment::create(&named.0, 8192, FORMAT).unwrap());

    let mut events = [std::mem::MaybeUninit::uninit(); 4096];
    let mut events = Reader::new(&watch, &mut events);
    let mut names = Vec::new();
    while let Ok(event) = events.next() {
        assert!(!event.events().contains(ReadFlags::QUEUE_OVERFLOW), "events are lost");
        names.extend(event.file_name().map(|name| format!("/{}", name.to_string_lossy())));
    }
    assert!(names.contains(&named.0.to_string()), "{names:?}");
    assert!(!names.iter().any(|name| name.starts_with("/nowhere")), "{names:?}");
}

#[test]
#[should_panic = "of a segment of 4096 bytes"]
fn views_beyond_the_end_are_a_broken_invariant() {
    let segment = Segment::create_unnamed("bounds", 4096, FORMAT).unwrap();
    segment.slice_at::<AtomicU32>(4092, 2);
}

#[test]
#[should_panic = "is not aligned to 8"]
fn views_that_are_not_aligned_are_a_broken_invariant() {
    Segment::create_unnamed("align", 4096, FORMAT).unwrap().at::<AtomicU64>(68);
}

/// Runs again in a mount namespace where /dev/shm has 64 KiB.
#[test]
fn a_full_shared_memory_is_an_error_and_not_a_signal() {
    const TEST: &str = "a_full_shared_memory_is_an_error_and_not_a_signal";
    if common::part().is_some() {
        return in_64_kib();
    }
    let script = "mount -t tmpfs -o size=64k tmpfs /dev/shm && exec \"$@\"";
    let can = Command::new("unshare").args(["-m", "sh", "-c", script, "sh", "true"]).output();
    if !can.is_ok_and(|run| run.status.success()) {
        println!("SKIPPED {TEST}: needs the right to mount (root)");
        return;
    }
    let binary = std::env::current_exe().unwrap();
    let run = Command::new("unshare")
        .args(["-m", "sh", "-c", script, "sh"])
        .arg(binary)
        .args(["--exact", TEST, "--nocapture"])
        .env("SHM_CORE_TEST_PART", "inside")
        .output()
        .unwrap();
    assert!(
        run.status.success(),
        "{}{}",
        String::from_utf8_lossy(&run.stdout),
        String::from_utf8_lossy(&run.stderr)
    );
}

fn in_64_kib() {
    const MIB: usize = 1 << 20;
    let named = Named::new("full");
    let segment = Segment::create(&named.0, MIB, FORMAT).unwrap();
    let error = segment.reserve(0..MIB).unwrap_err();
    let SegmentError::NoSpace { wanted, free, .. } = &error else { panic!("{error}") };
    assert_eq!(*wanted, MIB as u64);
    assert!(*free > 0 && *free < 65536, "{free}");
    assert!(error.to_string().contains("/dev/shm"), "{error}");
    let unnamed = Segment::create_unnamed("roomy", MIB, FORMAT).unwrap();
    unnamed.reserve(0..MIB).expect("anonymous memory does not depend on /dev/shm");
    assert!(fs::write("/dev/shm/filler", vec![1; 65536]).is_err(), "the rest is filled");
    let second = Named::new("none");
    let error = Segment::create(&second.0, 4096, FORMAT).unwrap_err();
    assert!(matches!(error, SegmentError::NoSpace { wanted: 4096, free: 0, .. }), "{error}");
    assert!(!common::exists(second.0.as_str()), "a creation that fails leaves no name");
    let unnamed = Segment::create_unnamed("still", MIB, FORMAT).unwrap();
    unnamed.reserve(0..MIB).expect("anonymous memory does not depend on /dev/shm");
}
