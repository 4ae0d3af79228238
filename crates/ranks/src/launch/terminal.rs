//! Pseudo-terminals for ranks that would otherwise buffer what they write.

use std::io;
use std::os::fd::OwnedFd;

use rustix::fs::{Mode, OFlags, open};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{OptionalActions, tcgetattr, tcgetwinsize, tcsetattr, tcsetwinsize};

/// A pseudo-terminal: the end that is read, and the terminal that a rank writes to. Bytes pass unchanged.
pub(super) fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let reader = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
    grantpt(&reader)?;
    unlockpt(&reader)?;
    let name = ptsname(&reader, Vec::new())?;
    let terminal = open(&*name, OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty())?;
    let mut attributes = tcgetattr(&terminal)?;
    // No carriage returns, no echo, no special characters.
    attributes.make_raw();
    tcsetattr(&terminal, OptionalActions::Now, &attributes)?;
    if let Ok(size) = tcgetwinsize(rustix::stdio::stdout()) {
        tcsetwinsize(&terminal, size)?;
    }
    Ok((reader, terminal))
}

#[cfg(test)]
mod tests {
    use rustix::io::{Errno, read, write};

    use super::*;

    #[test]
    fn bytes_pass_unchanged_and_the_end_shows() {
        let (reader, terminal) = pair().unwrap();
        let text = b"a\nb\r\n\x04\x03\t";
        assert_eq!(write(&terminal, text), Ok(text.len()));
        let mut buffer = [0; 100];
        assert_eq!(read(&reader, &mut buffer), Ok(text.len()));
        assert_eq!(&buffer[..text.len()], text);
        write(&terminal, b"last").unwrap();
        drop(terminal);
        assert_eq!(read(&reader, &mut buffer), Ok(4));
        assert_eq!(read(&reader, &mut buffer), Err(Errno::IO));
    }
}
