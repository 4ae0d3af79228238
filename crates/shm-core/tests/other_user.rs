//! Two users: neither gets at what the other one has, nor is lured to it. Only root can play both; others skip.
#![cfg(all(target_os = "linux", not(loom)))]

mod common;

use std::fs::{self, File, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::process::Command;

use shm_core::channel::{Channel, ChannelError, Options};
use shm_core::{Format, Segment, SegmentError, SegmentName};

/// A user who owns nothing.
const NOBODY: u32 = 65534;
const KIND: u32 = 0x7e57;
const FORMAT: Format = Format::of::<std::sync::atomic::AtomicU64>(KIND);

/// A name that is free at the beginning, and again at the end.
struct Named(SegmentName);

impl Named {
    /// `None`, with a word about it, without the right to play another user.
    fn new(label: &str) -> Option<Self> {
        let named = Self(SegmentName::new(&common::name(label)).unwrap());
        let probe = File::create(named.path()).unwrap();
        let can = chown(named.path(), Some(NOBODY), Some(NOBODY));
        fs::remove_file(named.path()).unwrap();
        match can {
            Ok(()) => Some(named),
            Err(error) => {
                println!("skipped: {} cannot act for another user: {error}", probe.metadata().unwrap().uid());
                None
            }
        }
    }

    fn path(&self) -> String {
        format!("/dev/shm{}", self.0)
    }

    /// Gives the object to the other user, open to all as an attacker would leave it.
    fn give_away(&self) {
        chown(self.path(), Some(NOBODY), Some(NOBODY)).unwrap();
        fs::set_permissions(self.path(), Permissions::from_mode(0o666)).unwrap();
    }
}

impl Drop for Named {
    fn drop(&mut self) {
        let _ = fs::remove_file(self.path());
    }
}

fn assert_other_user(error: &SegmentError) {
    assert!(matches!(error, SegmentError::OtherUser { owner: NOBODY, .. }), "{error}");
    assert!(error.to_string().contains("belongs to user 65534"), "{error}");
}

#[test]
fn a_segment_that_another_user_made_is_refused() {
    let Some(named) = Named::new("theirs") else { return };
    Segment::create(&named.0, 8192, FORMAT).unwrap();
    named.give_away();
    assert_other_user(&Segment::open(&named.0, FORMAT).unwrap_err());
    assert!(matches!(Segment::create(&named.0, 8192, FORMAT), Err(SegmentError::Exists { .. })));
}

#[test]
fn a_channel_that_another_user_made_is_refused_and_stays() {
    let Some(named) = Named::new("trap") else { return };
    // Without anybody attached it is a leftover to its own user, which would be removed and made anew.
    File::create(named.path()).unwrap();
    named.give_away();
    let name = named.0.as_str();
    let attempts = [
        Channel::open(name).map(drop),
        Channel::create(name, &Options::default()).map(drop),
        Channel::open_or_create(name, &Options::default()).map(drop),
    ];
    for attempt in attempts {
        let Err(ChannelError::Segment(error)) = attempt else { panic!("{attempt:?}") };
        assert_other_user(&error);
    }
    assert!(Channel::remove_leftover(name).is_err());
    assert!(common::exists(name));
}

#[test]
fn another_user_cannot_open_a_segment() {
    let Some(named) = Named::new("mine") else { return };
    let _segment = Segment::create(&named.0, 8192, FORMAT).unwrap();
    for redirection in ["<", ">", "<>"] {
        let script = format!("exec 3{redirection}{}", named.path());
        let mut attempt = Command::new("sh");
        let output = attempt.args(["-c", &script]).uid(NOBODY).gid(NOBODY).output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && stderr.contains("denied"), "{redirection}: {stderr}");
    }
}
