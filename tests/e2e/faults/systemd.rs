//! What systemd is told by its protocol, with a socket in its place: also while the database is away.

use std::{os::unix::net::UnixDatagram, path::PathBuf, time::Duration};

use anyhow::{Context, Result, ensure};
use tests::{
    Background, eventually,
    outage::{Apart, Way},
};

/// In place of systemd: what a service says, in order.
struct Manager {
    socket: UnixDatagram,
    path: PathBuf,
    heard: Vec<String>,
}

impl Manager {
    fn new(path: PathBuf) -> Result<Self> {
        let socket = UnixDatagram::bind(&path)?;
        socket.set_nonblocking(true)?;
        let heard = Vec::new();
        Ok(Self {
            socket,
            path,
            heard,
        })
    }

    fn start(&self, apart: &Apart, service: &str) -> Result<Background> {
        let env = [
            ("NOTIFY_SOCKET", self.path.as_path()),
            ("WATCHDOG_USEC", "400000".as_ref()),
        ];
        apart.spawn(&[service], &env)
    }

    /// Waits for a message after those that were heard before.
    async fn hears(&mut self, what: &str) -> Result<()> {
        let from = self.heard.len();
        let found = eventually(what, async || {
            let mut buffer = [0; 4096];
            while let Ok(length) = self.socket.recv(&mut buffer) {
                let text = String::from_utf8_lossy(&buffer[..length]);
                self.heard.push(text.trim().to_owned());
            }
            let new = &self.heard[from..];
            Ok(new.iter().any(|one| one.contains(what)).then_some(()))
        });
        found.await.with_context(|| format!("{:#?}", self.heard))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn systemd_hears_of_start_wait_work_and_end_and_a_sign_of_life_also_without_a_database()
-> Result<()> {
    let mut apart = Apart::new(Way::Refused).await?;
    apart.cut(Way::Refused).await?;
    let mut services = Vec::new();
    for service in ["scheduler", "worker"] {
        let manager = Manager::new(apart.site.path(&format!("notify-{service}")))?;
        let process = manager.start(&apart, service)?;
        services.push((manager, process));
    }
    for (manager, _) in &mut services {
        manager.hears("STATUS=waits for the database").await?;
        ensure!(manager.heard[0] == "READY=1", "{:#?}", manager.heard);
        manager.hears("WATCHDOG=1").await?;
    }
    apart.mend().await?;
    for (manager, _) in &mut services {
        manager.hears("STATUS=works").await?;
        manager.hears("WATCHDOG=1").await?;
    }
    apart.cut(Way::Silent).await?;
    for (manager, process) in &mut services {
        manager.hears("STATUS=waits for the database").await?;
        manager.hears("WATCHDOG=1").await?;
        ensure!(process.runs()?);
    }
    apart.mend().await?;
    for (manager, process) in &mut services {
        manager.hears("STATUS=works").await?;
        process.signal("TERM")?;
        manager.hears("STOPPING=1").await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_without_the_library_runs_and_says_what_it_waits_for() -> Result<()> {
    let mut apart = Apart::new(Way::Refused).await?;
    let mut manager = Manager::new(apart.site.path("notify"))?;
    // It is there, but cannot be loaded.
    let broken = apart.site.path("no-library");
    std::fs::write(&broken, "no library\n")?;
    let env = [
        ("NOTIFY_SOCKET", manager.path.as_path()),
        ("VIRTUOZO_VIX_LIBRARY", broken.as_path()),
    ];
    let mut worker = apart.spawn(&["worker"], &env)?;
    manager.hears("READY=1").await?;
    apart.mend().await?;
    manager.hears("serves no kind of host").await?;
    ensure!(worker.runs()?);
    ensure!(worker.said().contains("no-library"), "{}", worker.said());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_is_frozen_gives_no_sign_of_life() -> Result<()> {
    let apart = Apart::new(Way::Refused).await?;
    let mut manager = Manager::new(apart.site.path("notify"))?;
    let process = manager.start(&apart, "scheduler")?;
    manager.hears("WATCHDOG=1").await?;
    process.signal("STOP")?;
    manager.socket.set_nonblocking(false)?;
    // It said something every 100 ms.
    let silence = Duration::from_millis(800);
    manager.socket.set_read_timeout(Some(silence))?;
    let before = (0..100).find(|_| manager.socket.recv(&mut [0; 4096]).is_err());
    ensure!(before.is_some(), "it goes on talking");
    manager.socket.set_nonblocking(true)?;
    process.signal("CONT")?;
    manager.hears("WATCHDOG=1").await
}
