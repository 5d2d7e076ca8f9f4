//! The pipes to a process of files, or to a thread in its place.

use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt},
    net::UnixStream,
    process::Child,
    sync::mpsc,
};

use crate::{
    frames,
    messages::FromProcess,
    start::{LeftBehind, Started, end, log_stderr},
};

/// Messages that may wait to be heard; the process waits then.
const UNHEARD: usize = 64;

/// The pipes to a process or a thread, and the process.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) said: mpsc::UnboundedSender<Vec<u8>>,
    pub(crate) heard: mpsc::Receiver<FromProcess>,
    /// None for a thread.
    process: Option<(Child, LeftBehind)>,
}

impl Connection {
    pub(crate) fn to_process(started: Started, left_behind: LeftBehind) -> Self {
        let Started {
            child,
            stdin,
            stdout,
            stderr,
        } = started;
        tokio::spawn(async move { log_stderr("files", stderr).await });
        Self::over(stdout, stdin, Some((child, left_behind)))
    }

    pub(crate) fn to_thread(stream: UnixStream) -> Self {
        let (read, write) = stream.into_split();
        Self::over(read, write, None)
    }

    fn over(
        mut input: impl AsyncRead + Unpin + Send + 'static,
        mut output: impl AsyncWrite + Unpin + Send + 'static,
        process: Option<(Child, LeftBehind)>,
    ) -> Self {
        let (said, mut to_say) = mpsc::unbounded_channel::<Vec<u8>>();
        let (told, heard) = mpsc::channel(UNHEARD);
        // Closes the pipe when nobody says anything any more, which tells the other side to end.
        tokio::spawn(async move {
            while let Some(frame) = to_say.recv().await {
                if output.write_all(&frame).await.is_err() {
                    return;
                }
            }
        });
        tokio::spawn(async move {
            loop {
                let message = match frames::read_async(&mut input).await {
                    Ok(message) => message,
                    Err(error) => {
                        if error.kind() != std::io::ErrorKind::UnexpectedEof {
                            tracing::warn!(%error, "invalid message from a process of files");
                        }
                        return;
                    }
                };
                if told.send(message).await.is_err() {
                    return;
                }
            }
        });
        Self {
            said,
            heard,
            process,
        }
    }

    pub(crate) fn is_of_thread(&self) -> bool {
        self.process.is_none()
    }

    /// Whether the other side is there and waits for work. A sign of life may have come late.
    pub(crate) fn is_waiting(&mut self) -> bool {
        loop {
            match self.heard.try_recv() {
                Ok(FromProcess::Pulse(_)) => {}
                Err(mpsc::error::TryRecvError::Empty) => return !self.said.is_closed(),
                _ => return false,
            }
        }
    }

    /// Ends the other side, in the background.
    pub(crate) fn end(self) {
        if let Some((child, left_behind)) = self.process
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            runtime.spawn(async move { end(child, &left_behind).await });
        }
    }
}
