//! A way to the database that can be cut, fall silent and come back.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
};

use anyhow::{Context, Result};
use sqlx::postgres::PgConnectOptions;
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream, UnixStream},
    sync::watch,
    task::JoinHandle,
};

/// What becomes of connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// They are forwarded.
    Open,
    /// They end, and nobody gets a new one.
    Refused,
    /// They stay, and nothing comes through any more: neither in those that are there nor in new ones,
    /// also not when the way is open again.
    Silent,
}

/// Forwards a port of its own to a server's socket.
pub(crate) struct Proxy {
    address: SocketAddr,
    database: String,
    target: PathBuf,
    state: watch::Sender<State>,
    listener: Option<JoinHandle<()>>,
    /// Bound to the port and never listening: without it another process could get the port in the moment in
    /// which nobody listens.
    _keeper: TcpSocket,
}

impl Proxy {
    /// A way to the database at `url`, which names a directory with a socket.
    pub(crate) async fn to(url: &str) -> Result<Self> {
        let options: PgConnectOptions = url.parse()?;
        let keeper = bound((Ipv4Addr::LOCALHOST, 0).into())?;
        let mut proxy = Self {
            address: keeper.local_addr()?,
            database: options.get_database().context("no database")?.to_owned(),
            target: socket(&options)?,
            state: watch::Sender::new(State::Open),
            listener: None,
            _keeper: keeper,
        };
        proxy.open()?;
        Ok(proxy)
    }

    /// The database's URL by this way.
    pub(crate) fn url(&self) -> String {
        format!(
            "postgres://virtuozo@{}/{}?sslmode=disable",
            self.address, self.database
        )
    }

    /// Ends all connections; new ones are refused.
    pub(crate) async fn refuse(&mut self) {
        if let Some(listener) = self.listener.take() {
            listener.abort();
            // It listens until it is gone.
            let _ = listener.await;
        }
        self.state.send_replace(State::Refused);
    }

    /// Lets everything through silently disappear.
    pub(crate) fn fall_silent(&self) {
        self.state.send_replace(State::Silent);
    }

    /// From the next opening on, the way leads to the database at `url`.
    pub(crate) fn lead_to(&mut self, url: &str) -> Result<()> {
        self.target = socket(&url.parse()?)?;
        Ok(())
    }

    /// Opens the way for new connections.
    pub(crate) fn open(&mut self) -> Result<()> {
        self.state.send_replace(State::Open);
        if self.listener.is_none() {
            self.accept(bound(self.address)?.listen(64)?);
        }
        Ok(())
    }

    fn accept(&mut self, listener: TcpListener) {
        let (target, state) = (self.target.clone(), self.state.clone());
        self.listener = Some(tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(forward(client, target.clone(), state.subscribe()));
            }
        }));
    }
}

async fn forward(mut client: TcpStream, target: PathBuf, mut state: watch::Receiver<State>) {
    let now = *state.borrow_and_update();
    let end = if now == State::Open {
        let Ok(mut server) = UnixStream::connect(target).await else {
            return;
        };
        tokio::select! {
            _ = tokio::io::copy_bidirectional(&mut client, &mut server) => return,
            end = state.wait_for(|state| *state != State::Open) => end.map(|state| *state),
        }
    } else {
        Ok(now)
    };
    if end.is_ok_and(|state| state == State::Silent) {
        // Open on this side for as long as the test runs, as if the other machine had lost its power.
        std::future::pending::<()>().await;
    }
}

/// A socket on a port that it shares with the other sockets of this function, and with nobody else.
fn bound(address: SocketAddr) -> std::io::Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    // Connections of an earlier listener may still be about to close.
    socket.set_reuseaddr(true)?;
    socket.set_reuseport(true)?;
    socket.bind(address)?;
    Ok(socket)
}

fn socket(options: &PgConnectOptions) -> Result<PathBuf> {
    let directory = options.get_socket().context("not a socket")?;
    Ok(directory.join(".s.PGSQL.5432"))
}
