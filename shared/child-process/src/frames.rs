//! Messages as frames: JSON with its length in front as four bytes, little-endian.

use std::io::{self, Read};

use serde::{Serialize, de::DeserializeOwned};
use tokio::io::{AsyncRead, AsyncReadExt};

/// A longer frame is a fault of the other side.
const MAX_FRAME_BYTES: usize = 16 << 20;
/// Bytes of the length in front of a frame.
pub const LENGTH_BYTES: usize = 4;

/// A message as the bytes of a frame.
///
/// # Errors
/// It cannot be written as JSON, or is too long.
pub fn encode(message: &impl Serialize) -> io::Result<Vec<u8>> {
    let mut frame = vec![0; LENGTH_BYTES];
    serde_json::to_writer(&mut frame, message)?;
    let len = frame.len() - LENGTH_BYTES;
    let prefix = u32::try_from(checked(len)?).unwrap_or(u32::MAX);
    frame.splice(..LENGTH_BYTES, prefix.to_le_bytes());
    Ok(frame)
}

/// The length that stands in front of a frame.
///
/// # Errors
/// It is longer than a frame may be.
pub fn frame_len(prefix: [u8; LENGTH_BYTES]) -> io::Result<usize> {
    checked(u32::from_le_bytes(prefix) as usize)
}

/// The message in a frame (without its length).
///
/// # Errors
/// It is none of this type.
pub fn decode<T: DeserializeOwned>(frame: &[u8]) -> io::Result<T> {
    Ok(serde_json::from_slice(frame)?)
}

/// Reads the next message. Blocks.
///
/// # Errors
/// [`io::ErrorKind::UnexpectedEof`] after the last one; what was read is no message.
pub fn read<T: DeserializeOwned>(from: &mut impl Read) -> io::Result<T> {
    let mut prefix = [0; LENGTH_BYTES];
    from.read_exact(&mut prefix)?;
    let mut frame = vec![0; frame_len(prefix)?];
    from.read_exact(&mut frame)?;
    decode(&frame)
}

/// As [`read`], without blocking. Dropped before it is ready, it loses what was read.
///
/// # Errors
/// As [`read`].
pub async fn read_async<T: DeserializeOwned>(from: &mut (impl AsyncRead + Unpin)) -> io::Result<T> {
    let mut prefix = [0; LENGTH_BYTES];
    from.read_exact(&mut prefix).await?;
    let mut frame = vec![0; frame_len(prefix)?];
    from.read_exact(&mut frame).await?;
    decode(&frame)
}

fn checked(len: usize) -> io::Result<usize> {
    if len > MAX_FRAME_BYTES {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("a message of {len} bytes is longer than {MAX_FRAME_BYTES}"),
        ));
    }
    Ok(len)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_that_claims_gigabytes_is_refused_before_any_memory_is_taken() {
        assert!(frame_len(u32::MAX.to_le_bytes()).is_err());
        assert!(decode::<u32>(b"{\"id\":").is_err());
    }

    #[tokio::test]
    async fn a_message_is_read_as_it_was_written() {
        let frame = encode(&vec!["a", "b"]).unwrap();
        let back: Vec<String> = read(&mut frame.as_slice()).unwrap();
        assert_eq!(back, ["a", "b"]);
        let back: Vec<String> = read_async(&mut frame.as_slice()).await.unwrap();
        assert_eq!(back, ["a", "b"]);
        let short: io::Result<Vec<String>> = read(&mut frame.get(..5).unwrap());
        assert_eq!(short.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
}
