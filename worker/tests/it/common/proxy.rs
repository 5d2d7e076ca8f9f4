//! A way to the database that can be cut.

use std::sync::Arc;

use parking_lot::Mutex;
use sqlx::postgres::PgConnectOptions;
use tokio::{
    net::{UnixListener, UnixStream},
    task::JoinHandle,
};

/// Forwards a socket of its own to the database's.
pub(crate) struct Proxy {
    directory: tempfile::TempDir,
    target: std::path::PathBuf,
    database: String,
    listener: Mutex<Option<JoinHandle<()>>>,
    connections: Arc<Mutex<Vec<JoinHandle<()>>>>,
}

const SOCKET: &str = ".s.PGSQL.5432";

impl Proxy {
    pub(crate) fn new(url: &str) -> Self {
        let options: PgConnectOptions = url.parse().unwrap();
        let proxy = Self {
            directory: tempfile::tempdir().unwrap(),
            target: options
                .get_socket()
                .expect("test databases listen on a socket")
                .join(SOCKET),
            database: options.get_database().unwrap().to_owned(),
            listener: Mutex::default(),
            connections: Arc::default(),
        };
        proxy.mend();
        proxy
    }

    pub(crate) fn url(&self) -> String {
        let host = self.directory.path().to_str().unwrap().replace('/', "%2F");
        format!(
            "postgres://virtuozo@localhost/{}?host={host}",
            self.database
        )
    }

    /// Ends all connections; nobody gets a new one.
    pub(crate) fn cut(&self) {
        if let Some(listener) = self.listener.lock().take() {
            listener.abort();
        }
        let _ = std::fs::remove_file(self.directory.path().join(SOCKET));
        for connection in self.connections.lock().drain(..) {
            connection.abort();
        }
    }

    pub(crate) fn mend(&self) {
        let listener = UnixListener::bind(self.directory.path().join(SOCKET)).unwrap();
        let (target, connections) = (self.target.clone(), Arc::clone(&self.connections));
        let accepting = tokio::spawn(async move {
            loop {
                let (mut client, _) = listener.accept().await.unwrap();
                let target = target.clone();
                let connection = tokio::spawn(async move {
                    let mut server = UnixStream::connect(target).await.unwrap();
                    let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
                });
                connections.lock().push(connection);
            }
        });
        *self.listener.lock() = Some(accepting);
    }
}
