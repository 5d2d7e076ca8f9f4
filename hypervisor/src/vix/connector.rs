//! Finds the VIX library and makes connections, each in a process of its own.

use std::{ffi::OsString, path::PathBuf, sync::Arc};

use async_trait::async_trait;
use opentelemetry::metrics::Meter;
use opentelemetry_sdk::trace::SdkTracer;
use tokio::sync::Mutex;
use virtuozo_child_process::FileProcesses;
use virtuozo_disk::MachineRoots;

use super::{
    child::{Answer, ChildProcess, Instruments, Operation},
    files::serve_file_work,
    host::VixHost,
    library,
    limits::LIMITS,
    product::Product,
};
use crate::{BackEnd, Connector, Host, HostTarget, Result};

/// Makes connections to VMware hosts through the VIX library.
pub struct VixConnector {
    library: Option<PathBuf>,
    child_program: PathBuf,
    child_arguments: Vec<OsString>,
    instruments: Instruments,
    allowed: MachineRoots,
    files: FileProcesses,
    /// The library that answered, once one has.
    found: Mutex<Option<(PathBuf, String)>>,
}

impl VixConnector {
    /// A connector that uses the given library, else the one that [`super::LIBRARY_VARIABLE`] names,
    /// else the first that answers in the usual places. Connections live in processes
    /// `virtuozo vix-host` of this program.
    pub fn new(library: Option<PathBuf>) -> Self {
        // This path still starts this program after its file was replaced.
        Self::with_child(library, "/proc/self/exe", ["vix-host"])
    }

    /// As [`Self::new`], with the program that runs [`super::run_vix_host`] and its arguments before
    /// `--library PATH`.
    pub fn with_child(
        library: Option<PathBuf>,
        program: impl Into<PathBuf>,
        arguments: impl IntoIterator<Item = impl Into<OsString>>,
    ) -> Self {
        Self {
            library,
            child_program: program.into(),
            child_arguments: arguments.into_iter().map(Into::into).collect(),
            instruments: Instruments::default(),
            allowed: MachineRoots::default(),
            files: FileProcesses::threads(Arc::new(|_, request, line| {
                serve_file_work(request, line)
            })),
            found: Mutex::new(None),
        }
    }

    /// The same connector, which counts failed calls with `meter` and traces its requests with `tracer`.
    #[must_use]
    pub fn observed_by(self, meter: &Meter, tracer: Option<SdkTracer>) -> Self {
        Self {
            instruments: Instruments::new(meter, tracer),
            ..self
        }
    }

    /// The same connector, which reads guests' files only below these directories.
    #[must_use]
    pub fn reading_within(self, allowed: MachineRoots) -> Self {
        Self { allowed, ..self }
    }

    /// The same connector, which has files read by these processes. Without them, threads of this process read, which
    /// cannot be given up.
    #[must_use]
    pub fn reading_by(self, files: FileProcesses) -> Self {
        Self { files, ..self }
    }

    fn start_child(&self, label: &str, library: &std::path::Path) -> Result<ChildProcess> {
        ChildProcess::start(
            label,
            &self.child_program,
            &self.child_arguments,
            library,
            self.instruments.clone(),
        )
    }

    /// The first library that answers, and what it says.
    async fn find(&self) -> Result<(PathBuf, String)> {
        let mut found = self.found.lock().await;
        if let Some(found) = found.as_ref() {
            return Ok(found.clone());
        }
        let mut tried = Vec::new();
        for path in library::candidates(self.library.as_deref()) {
            if !path.exists() {
                tried.push((path, "no such file".to_owned()));
                continue;
            }
            let child = self.start_child("(probe)", &path)?;
            let answer = child.call(LIMITS.probe, Operation::Probe).await;
            child.close().await;
            match answer {
                Ok(Answer::Text(text)) => {
                    let answered = (path, text);
                    *found = Some(answered.clone());
                    return Ok(answered);
                }
                Ok(other) => tried.push((path, format!("it answered {other:?}"))),
                Err(error) => tried.push((path, error.message)),
            }
        }
        Err(library::missing(&tried))
    }
}

#[async_trait]
impl Connector for VixConnector {
    fn back_end(&self) -> &'static BackEnd {
        &super::BACK_END
    }

    async fn probe(&self) -> Result<String> {
        // Each probe looks for the library again, since it may have been removed.
        self.found.lock().await.take();
        self.find().await.map(|(_, text)| text)
    }

    async fn probe_kind(&self, kind: &str) -> Result<String> {
        let provider = Product::of_kind(kind)?.provider();
        let (library, _) = self.find().await?;
        let child = self.start_child("(probe)", &library)?;
        let answer = child
            .call(LIMITS.probe, Operation::TakePart(provider))
            .await;
        child.close().await;
        answer.map(|_| format!("{} answers for them", library.display()))
    }

    async fn connect(&self, target: &HostTarget) -> Result<Arc<dyn Host>> {
        let (library, _) = self.find().await?;
        let child = self.start_child(&target.name, &library)?;
        Ok(Arc::new(
            VixHost::connect(
                child,
                target.clone(),
                self.allowed.clone(),
                self.files.clone(),
            )
            .await?,
        ))
    }
}
