//! The open connections of a host, one file each, counted over all processes.

use std::{fs, path::PathBuf};

use vix_sys::{VIX_E_CANNOT_CONNECT_TO_HOST, VIX_E_FILE_ERROR};

use super::{
    error::{Result, SimError},
    host::Host,
    process::ProcessId,
};

const CONNECTIONS_DIR: &str = "connections";

/// An open connection, noted in the host's directory until dropped.
#[derive(Debug)]
pub(crate) struct Connection {
    file: PathBuf,
}

impl Drop for Connection {
    fn drop(&mut self) {
        // A note left behind counts no longer than this process lives.
        let _ = fs::remove_file(&self.file);
    }
}

impl Host {
    /// Notes a connection in the host's directory; refuses one more than the host allows, over all
    /// processes.
    pub(crate) fn open_connection(&self) -> Result<Connection> {
        let dir = self.dir.join(CONNECTIONS_DIR);
        fs::create_dir_all(&dir).map_err(SimError::io("create", &dir))?;
        let _lock = self.lock()?;
        let mut open = 0;
        let mut number = 0;
        for entry in fs::read_dir(&dir)
            .map_err(SimError::io("read", &dir))?
            .flatten()
        {
            let name = entry.file_name();
            let fields: Option<Vec<u64>> = name.to_str().map(|name| {
                name.split('-')
                    .filter_map(|field| field.parse().ok())
                    .collect()
            });
            let Some([pid, start_time, own]) = fields.as_deref() else {
                continue;
            };
            let process = ProcessId {
                pid: *pid as u32,
                start_time: *start_time,
            };
            if process.is_alive() {
                open += 1;
                number = number.max(own + 1);
            } else {
                // Whoever held it is gone.
                let _ = fs::remove_file(entry.path());
            }
        }
        if self.max_connections.is_some_and(|most| open >= most) {
            return Err(SimError::new(
                VIX_E_CANNOT_CONNECT_TO_HOST,
                format!("{} has {open} connections and allows no more", self.name),
            ));
        }
        let me = ProcessId::me().ok_or_else(|| {
            SimError::new(VIX_E_FILE_ERROR, "cannot read /proc about this process")
        })?;
        let file = dir.join(format!("{}-{}-{number}", me.pid, me.start_time));
        fs::write(&file, b"").map_err(SimError::io("write", &file))?;
        Ok(Connection { file })
    }
}
