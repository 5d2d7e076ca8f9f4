//! The scheduler and the workers of the demo: processes of their own, as on a real site.

use std::{
    fs::{self, File},
    os::unix::process::CommandExt,
    path::Path,
    process::{Child, Command, Stdio},
    time::Instant,
};

use anyhow::{Context as _, Result, bail};
use virtuozo_runtime::LIMITS;

use crate::output;

/// Processes that end with this value, in whichever way it goes.
#[derive(Default)]
pub(super) struct Children {
    all: Vec<(String, Child)>,
}

impl Children {
    /// Starts this program again with other arguments; what it logs goes to `logs/NAME.log`.
    pub(super) fn start(
        &mut self,
        name: &str,
        args: &[&str],
        environment: &[(&str, &Path)],
        database_url: &str,
        logs: &Path,
    ) -> Result<()> {
        let log = logs.join(format!("{name}.log"));
        let log = File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
        // By this name a program that was replaced on disk meanwhile still starts itself.
        let child = Command::new("/proc/self/exe")
            .args(args)
            // Its end is seen even if this process is killed: nobody stays behind.
            .arg("--stop-with-stdin")
            // Nothing of the machine's own configuration, and nothing into its log.
            .env("VIRTUOZO_CONFIG", "/dev/null")
            .env("VIRTUOZO_EVENT_LOG", "off")
            .env_remove("DATABASE_PASSWORD_FILE")
            .env("DATABASE_URL", database_url)
            .envs(environment.iter().copied())
            .stdin(Stdio::piped())
            .stdout(log.try_clone()?)
            .stderr(log)
            // Ctrl-C is for the demo alone, which then stops them in order.
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot start the {name}"))?;
        self.all.push((name.to_owned(), child));
        Ok(())
    }

    /// Fails if one of them has ended, with the end of its log.
    pub(super) fn check(&mut self, logs: &Path) -> Result<()> {
        for (name, child) in &mut self.all {
            if let Some(status) = child.try_wait()? {
                let log = fs::read_to_string(logs.join(format!("{name}.log"))).unwrap_or_default();
                let lines: Vec<_> = log.lines().collect();
                let end = lines.len().saturating_sub(15);
                for line in lines.get(end..).unwrap_or_default() {
                    output::note(line);
                }
                bail!("the {name} ended by itself ({status}); the end of its log stands above");
            }
        }
        Ok(())
    }

    /// Asks all to end and waits until they have; those that do not are killed.
    pub(super) async fn stop(&mut self) {
        for (_, child) in &mut self.all {
            drop(child.stdin.take());
        }
        let deadline = Instant::now() + LIMITS.console.demo_stop;
        while Instant::now() < deadline
            && self
                .all
                .iter_mut()
                .any(|(_, child)| matches!(child.try_wait(), Ok(None)))
        {
            tokio::time::sleep(LIMITS.console.demo_stop_look_every).await;
        }
        self.kill();
    }

    fn kill(&mut self) {
        for (_, mut child) in self.all.drain(..) {
            // Both fail only where it has ended already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Drop for Children {
    fn drop(&mut self) {
        self.kill();
    }
}
