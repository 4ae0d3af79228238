//! Whom a message goes to and whom it may come from: [`Destination`], [`Source`] and the wildcards.
//!
//! A plain rank stands for tag 0 when sending and for any tag when receiving; a pair names both.

/// The wildcard for the sending rank: `world.recv(&mut buffer, ANY_SOURCE)`.
///
/// # MPI
/// `MPI_ANY_SOURCE`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AnySource;

/// The wildcard for the tag: `world.recv(&mut buffer, (0, ANY_TAG))`.
///
/// # MPI
/// `MPI_ANY_TAG`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AnyTag;

/// Matches a message from any rank. See [`AnySource`].
pub const ANY_SOURCE: AnySource = AnySource;
/// Matches a message with any tag. See [`AnyTag`].
pub const ANY_TAG: AnyTag = AnyTag;

/// A message's tag: chosen by the sender, from 0 to `i32::MAX`.
pub type Tag = i32;

/// Where a message goes: a rank, and the tag that the message carries.
///
/// Anything that takes `impl Into<Destination>` accepts a rank (tag 0) or a pair of rank and tag.
///
/// ```
/// use ranks::Destination;
/// assert_eq!(Destination::from(3), Destination { rank: 3, tag: 0 });
/// assert_eq!(Destination::from((3, 7)), Destination { rank: 3, tag: 7 });
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Destination {
    /// The receiving rank.
    pub rank: usize,
    /// The tag that the message carries.
    pub tag: Tag,
}

/// Which messages a receive or probe accepts: from which rank, with which tag; `None` is a wildcard.
///
/// Anything that takes `impl Into<Source>` accepts a rank (any tag), a pair of rank and tag,
/// [`ANY_SOURCE`], or a pair with [`ANY_SOURCE`] or [`ANY_TAG`] in it.
///
/// ```
/// use ranks::{Source, ANY_SOURCE, ANY_TAG};
/// assert_eq!(Source::from(3), Source { rank: Some(3), tag: None });
/// assert_eq!(Source::from((3, 7)), Source { rank: Some(3), tag: Some(7) });
/// assert_eq!(Source::from((ANY_SOURCE, 7)), Source { rank: None, tag: Some(7) });
/// assert_eq!(Source::from((3, ANY_TAG)), Source::from(3));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Source {
    /// The sending rank, or `None` for any.
    pub rank: Option<usize>,
    /// The tag, or `None` for any.
    pub tag: Option<Tag>,
}

impl From<usize> for Destination {
    fn from(rank: usize) -> Self {
        Self { rank, tag: 0 }
    }
}

impl From<(usize, Tag)> for Destination {
    fn from((rank, tag): (usize, Tag)) -> Self {
        Self { rank, tag }
    }
}

impl From<usize> for Source {
    fn from(rank: usize) -> Self {
        Self { rank: Some(rank), tag: None }
    }
}

impl From<(usize, Tag)> for Source {
    fn from((rank, tag): (usize, Tag)) -> Self {
        Self { rank: Some(rank), tag: Some(tag) }
    }
}

impl From<(usize, AnyTag)> for Source {
    fn from((rank, _): (usize, AnyTag)) -> Self {
        Self { rank: Some(rank), tag: None }
    }
}

impl From<AnySource> for Source {
    fn from(_: AnySource) -> Self {
        Self { rank: None, tag: None }
    }
}

impl From<(AnySource, Tag)> for Source {
    fn from((_, tag): (AnySource, Tag)) -> Self {
        Self { rank: None, tag: Some(tag) }
    }
}

impl From<(AnySource, AnyTag)> for Source {
    fn from(_: (AnySource, AnyTag)) -> Self {
        Self { rank: None, tag: None }
    }
}
