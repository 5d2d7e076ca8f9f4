//! In place of a journald or syslog: a datagram socket that keeps what it is told, decoded by journald's own
//! description of its protocol.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::net::UnixDatagram,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use sqlx::PgPool;

use crate::eventually;

/// The longest datagram that is read.
const BYTES_MAX: usize = 1 << 18;

/// A log of the machine that the test owns.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    socket: Option<UnixDatagram>,
    heard: Vec<Vec<u8>>,
}

impl Journal {
    /// Listens at `path`.
    ///
    /// # Errors
    /// It cannot.
    pub fn listen(path: PathBuf) -> Result<Self> {
        let mut journal = Self {
            path,
            socket: None,
            heard: Vec::new(),
        };
        journal.listen_again()?;
        Ok(journal)
    }

    /// Its socket.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Goes away, with its socket.
    ///
    /// # Errors
    /// The socket cannot be removed.
    pub fn go_away(&mut self) -> Result<()> {
        self.hear();
        self.socket = None;
        Ok(fs::remove_file(&self.path)?)
    }

    /// Comes back.
    ///
    /// # Errors
    /// It cannot.
    pub fn listen_again(&mut self) -> Result<()> {
        let socket = UnixDatagram::bind(&self.path)?;
        socket.set_nonblocking(true)?;
        self.socket = Some(socket);
        Ok(())
    }

    fn hear(&mut self) {
        let mut buffer = vec![0; BYTES_MAX];
        while let Some(socket) = &self.socket
            && let Ok(length) = socket.recv(&mut buffer)
        {
            self.heard.push(buffer[..length].to_vec());
        }
    }

    /// Waits until the place where the mirror of events goes on is kept: what happens from now on is told.
    ///
    /// # Errors
    /// It is not, or what the database says.
    pub async fn looked_after(pool: &PgPool) -> Result<()> {
        eventually("the log of the machine to be looked after", async || {
            let sql = "SELECT EXISTS (SELECT FROM virtuozo_core.event_forwarder)";
            let begun: bool = sqlx::query_scalar(sql).fetch_one(pool).await?;
            Ok(begun.then_some(()))
        })
        .await
    }

    /// What it was told so far, as it came.
    pub fn heard(&mut self) -> &[Vec<u8>] {
        self.hear();
        &self.heard
    }

    /// The entries so far, by the names of their fields.
    ///
    /// # Errors
    /// One is none by journald's protocol.
    pub fn entries(&mut self) -> Result<Vec<BTreeMap<String, String>>> {
        let told = self.heard().iter();
        told.filter(|datagram| !datagram.is_empty())
            .map(|datagram| entry(datagram))
            .collect()
    }
}

/// An entry in journald's native protocol: `NAME=value` and a newline; or `NAME`, a newline, the length as a
/// little-endian number of 64 bits, the value, and a newline.
fn entry(mut rest: &[u8]) -> Result<BTreeMap<String, String>> {
    let mut fields = BTreeMap::new();
    while !rest.is_empty() {
        let end = rest
            .iter()
            .position(|byte| *byte == b'\n')
            .context("a field does not end")?;
        let line = &rest[..end];
        rest = &rest[end + 1..];
        let (name, value) = match line.iter().position(|byte| *byte == b'=') {
            Some(at) => (&line[..at], &line[at + 1..]),
            None => {
                let (length, after) = rest.split_first_chunk::<8>().context("no length")?;
                let length = usize::try_from(u64::from_le_bytes(*length))?;
                ensure!(after.get(length) == Some(&b'\n'), "a wrong length");
                rest = &after[length + 1..];
                (line, &after[..length])
            }
        };
        let name = String::from_utf8(name.to_vec())?;
        let plain = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
        ensure!(
            !name.is_empty()
                && name.len() <= 64
                && !name.starts_with('_')
                && name.chars().all(plain),
            "journald takes no field {name:?}"
        );
        fields.insert(name, String::from_utf8(value.to_vec())?);
    }
    Ok(fields)
}
