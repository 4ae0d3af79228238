//! What is sent where content is verified: different for every sender, index and call.

use anyhow::{Result, bail};

/// Byte `index` of what `sender` sends in its call number `call`.
fn byte(sender: usize, index: usize, call: usize) -> u8 {
    (index * 31 + index / 251 + sender * 17 + call * 7) as u8
}

pub(crate) fn fill(data: &mut [u8], sender: usize, call: usize) {
    for (index, found) in data.iter_mut().enumerate() {
        *found = byte(sender, index, call);
    }
}

pub(crate) fn verify(buffer: &[u8], sender: usize, call: usize) -> Result<()> {
    for (index, &found) in buffer.iter().enumerate() {
        let expected = byte(sender, index, call);
        if found != expected {
            bail!("byte {index} from rank {sender} in call {call} is {found}, not {expected}");
        }
    }
    Ok(())
}

/// Element `index` of what `sender` adds to a sum: small and whole, so that sums are exact.
fn float(sender: usize, index: usize, call: usize) -> f32 {
    f32::from(byte(sender, index, call))
}

pub(crate) fn fill_floats(data: &mut [f32], sender: usize, call: usize) {
    for (index, found) in data.iter_mut().enumerate() {
        *found = float(sender, index, call);
    }
}

/// Whether these are the sums over all `ranks`.
pub(crate) fn verify_sums(buffer: &[f32], ranks: usize, call: usize) -> Result<()> {
    for (index, &found) in buffer.iter().enumerate() {
        let expected = (0..ranks).map(|sender| float(sender, index, call)).sum::<f32>();
        if found != expected {
            bail!("sum {index} of {ranks} ranks in call {call} is {found}, not {expected}");
        }
    }
    Ok(())
}
