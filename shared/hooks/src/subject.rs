//! What a hook belongs to, and how messages name it and its command.

use virtuozo_model::{HookMoment, terminal};

/// What a hook belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject<'a> {
    /// A run of the site.
    Run,
    /// The backup of a guest, by the full name of the guest.
    Guest(&'a str),
}

impl Subject<'_> {
    /// The value of `VIRTUOZO_HOOK`.
    pub fn kind(&self, moment: HookMoment) -> String {
        match self {
            Self::Run => format!("run-{moment}"),
            Self::Guest(_) => format!("guest-{moment}"),
        }
    }

    /// The hook as the subject of a sentence.
    pub(crate) fn hook(&self, moment: HookMoment) -> String {
        match self {
            Self::Run => format!("the command {moment} the run"),
            Self::Guest(_) => format!("the command {moment} its backup"),
        }
    }

    /// A sentence about the hook that also names the guest.
    pub(crate) fn sentence(&self, sentence: &str) -> String {
        match self {
            Self::Run => sentence.to_owned(),
            Self::Guest(name) => format!("guest {name}: {sentence}"),
        }
    }

    /// The command that removes the hook.
    pub(crate) fn clear(&self, moment: HookMoment) -> String {
        match self {
            Self::Run => format!("virtuozo hook clear --{moment}"),
            Self::Guest(name) => format!(
                "virtuozo hook clear --{moment} --guest={}",
                terminal::shell_word(name)
            ),
        }
    }
}

/// A command as one would type it in a shell.
pub fn command_line(command: &[String]) -> String {
    let words: Vec<_> = command
        .iter()
        .map(|word| terminal::shell_word(word))
        .collect();
    words.join(" ")
}
