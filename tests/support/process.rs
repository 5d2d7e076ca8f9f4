//! The program `virtuozo` as a child process: one command and its answer, or one that runs on.

use std::{
    env, fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// The file `name` beside the test programs' directory, where `cargo build --workspace` puts it.
///
/// # Errors
/// It has not been built.
pub fn built(name: &str) -> Result<PathBuf> {
    let exe = env::current_exe().context("where is this test program?")?;
    let file = exe
        .parent()
        .and_then(Path::parent)
        .context("a test program lies in target/*/deps")?
        .join(name);
    if !file.exists() {
        bail!(
            "{} is missing: run `cargo build --workspace` first (`make test` does)",
            file.display()
        );
    }
    Ok(file)
}

/// What a finished command said.
#[derive(Debug)]
pub struct Answer {
    /// The exit code; -1 when a signal ended it.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Answer {
    /// Runs a command to its end, with `stdin` as its input.
    ///
    /// # Errors
    /// It could not be started.
    pub fn of(mut command: Command, stdin: &str) -> Result<Self> {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("start {command:?}"))?;
        if let Some(mut pipe) = child.stdin.take() {
            // A command that refuses early need not read it.
            let _ = pipe.write_all(stdin.as_bytes());
        }
        let output = child.wait_with_output()?;
        Ok(Self {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }

    /// Insists on success.
    ///
    /// # Errors
    /// The command failed; the error is what it said.
    pub fn ok(self) -> Result<Self> {
        if self.code != 0 {
            bail!("exit code {}\n{}\n{}", self.code, self.stdout, self.stderr);
        }
        Ok(self)
    }

    /// Standard output as JSON.
    ///
    /// # Errors
    /// It is none.
    pub fn json(&self) -> Result<Value> {
        serde_json::from_str(&self.stdout)
            .with_context(|| format!("not JSON: {}{}", self.stdout, self.stderr))
    }
}

/// A process that runs on until it is stopped, killed or dropped. What it says goes to a file.
#[derive(Debug)]
pub struct Background {
    child: Child,
    log: PathBuf,
}

impl Background {
    /// Starts it; `log` is where its output goes.
    ///
    /// # Errors
    /// It could not be started.
    pub fn start(mut command: Command, log: PathBuf) -> Result<Self> {
        let file = fs::File::create(&log)?;
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn()
            .with_context(|| format!("start {command:?}"))?;
        Ok(Self { child, log })
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Ends it with SIGKILL, as a crash or the kernel would, and waits until it is gone.
    ///
    /// # Errors
    /// It cannot be waited for.
    pub fn kill_9(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Whether it has not ended yet.
    ///
    /// # Errors
    /// The system does not tell.
    pub fn runs(&mut self) -> Result<bool> {
        Ok(self.child.try_wait()?.is_none())
    }

    /// Sends it a signal by its name without `SIG`.
    ///
    /// # Errors
    /// It cannot be signalled.
    pub fn signal(&self, name: &str) -> Result<()> {
        let answer = Command::new("kill")
            .args([&format!("-{name}"), &self.child.id().to_string()])
            .status()?;
        anyhow::ensure!(answer.success(), "kill -{name} failed");
        Ok(())
    }

    /// Asks it to end with SIGTERM and waits.
    ///
    /// # Errors
    /// It cannot be signalled, or ends with a failure.
    pub fn terminate(&mut self) -> Result<()> {
        self.signal("TERM")?;
        let status = self.child.wait()?;
        anyhow::ensure!(status.success(), "ended with {status}:\n{}", self.said());
        Ok(())
    }

    /// Everything it has said so far.
    pub fn said(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("---- {} said:\n{}", self.log.display(), self.said());
        }
    }
}
