//! What is said between a worker and its `vix-host` process, in frames.

use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize, Serializer};

use super::calls::Call;
use crate::HypervisorError;

/// A request of the worker.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Request {
    /// Number by which the response names it.
    pub(crate) id: u64,
    /// How long the operation may take, in milliseconds.
    pub(crate) limit_ms: u64,
    /// What to do.
    pub(crate) operation: Operation,
}

/// What can be asked. The first request is [`Operation::Probe`], [`Operation::TakePart`] or
/// [`Operation::Connect`].
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Operation {
    /// Load the library and say something that shows it answers.
    Probe,
    /// Load the library's part for a product; the number is a `VIX_SERVICEPROVIDER_…`.
    TakePart(i32),
    /// Connect to the host.
    Connect(ConnectTo),
    /// List guests; the number is a `VIX_FIND_…`.
    Find(i32),
    /// Bits of the power state.
    PowerBits { vmx_path: String },
    /// Whether Tools run.
    ToolsRunning { vmx_path: String },
    /// Power on.
    PowerOn { vmx_path: String },
    /// Power off.
    PowerOff { vmx_path: String, soft: bool },
    /// Names of all snapshots, parents first; where the library does not tell them, their number.
    Snapshots { vmx_path: String },
    /// Whether there is a snapshot of this name.
    HasSnapshot { vmx_path: String, name: String },
    /// Take a snapshot.
    CreateSnapshot {
        vmx_path: String,
        name: String,
        description: String,
    },
    /// Remove a snapshot.
    RemoveSnapshot { vmx_path: String, name: String },
    /// Disconnect; the process ends after it.
    Disconnect,
}

impl Operation {
    /// Its name in traces.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Probe => "vix probe",
            Self::TakePart(_) => "vix take_part",
            Self::Connect(_) => "vix connect",
            Self::Find(_) => "vix find",
            Self::PowerBits { .. } => "vix power_state",
            Self::ToolsRunning { .. } => "vix tools",
            Self::PowerOn { .. } => "vix power_on",
            Self::PowerOff { .. } => "vix power_off",
            Self::Snapshots { .. } => "vix snapshots",
            Self::HasSnapshot { .. } => "vix has_snapshot",
            Self::CreateSnapshot { .. } => "vix create_snapshot",
            Self::RemoveSnapshot { .. } => "vix remove_snapshot",
            Self::Disconnect => "vix disconnect",
        }
    }

    /// The guest it is about.
    pub(crate) fn vmx_path(&self) -> Option<&str> {
        match self {
            Self::PowerBits { vmx_path }
            | Self::ToolsRunning { vmx_path }
            | Self::PowerOn { vmx_path }
            | Self::PowerOff { vmx_path, .. }
            | Self::Snapshots { vmx_path }
            | Self::HasSnapshot { vmx_path, .. }
            | Self::CreateSnapshot { vmx_path, .. }
            | Self::RemoveSnapshot { vmx_path, .. } => Some(vmx_path),
            Self::Probe
            | Self::TakePart(_)
            | Self::Connect(_)
            | Self::Find(_)
            | Self::Disconnect => None,
        }
    }

    /// The snapshot it is about.
    pub(crate) fn snapshot(&self) -> Option<&str> {
        match self {
            Self::HasSnapshot { name, .. }
            | Self::CreateSnapshot { name, .. }
            | Self::RemoveSnapshot { name, .. } => Some(name),
            _ => None,
        }
    }
}

/// Where to connect.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ConnectTo {
    /// Name of the host, for messages.
    pub(crate) label: String,
    /// `VIX_SERVICEPROVIDER_…`.
    pub(crate) provider: i32,
    /// URL.
    pub(crate) address: Option<String>,
    /// User name.
    pub(crate) user: Option<String>,
    /// Password. It travels through the pipe only.
    #[serde(serialize_with = "expose")]
    pub(crate) password: Option<SecretString>,
}

/// A response of the process.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Response {
    /// The request it answers.
    pub(crate) id: u64,
    /// What came of it.
    pub(crate) answer: Result<Answer, HypervisorError>,
    /// The library's calls that it took.
    #[serde(default)]
    pub(crate) calls: Vec<Call>,
}

/// What an operation answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Answer {
    /// It is done.
    Done,
    /// Yes or no.
    Flag(bool),
    /// A number.
    Number(i32),
    /// A text.
    Text(String),
    /// A list.
    List(Vec<String>),
}

fn expose<S: Serializer>(
    password: &Option<SecretString>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    password
        .as_ref()
        .map(ExposeSecret::expose_secret)
        .serialize(serializer)
}

#[cfg(test)]
mod tests {
    use virtuozo_child_process::frames;

    use super::*;

    #[test]
    fn a_message_survives_its_frame_and_debug_hides_the_password() {
        let request = Request {
            id: 7,
            limit_ms: 1000,
            operation: Operation::Connect(ConnectTo {
                label: "alpha".into(),
                provider: 10,
                address: Some("https://alpha:8333/sdk".into()),
                user: Some("root".into()),
                password: Some("geheim".to_owned().into()),
            }),
        };
        assert!(!format!("{request:?}").contains("geheim"));
        let frame = frames::encode(&request).unwrap();
        let back: Request = frames::read(&mut frame.as_slice()).unwrap();
        let Operation::Connect(to) = back.operation else {
            panic!("{back:?}");
        };
        assert_eq!(to.password.unwrap().expose_secret(), "geheim");
    }
}
