//! The programs that hooks may be: those in a directory that the machine's own configuration names, so that who
//! can write to the database cannot run anything else.

use std::path::{Component, Path, PathBuf};

use virtuozo_store::workers;

/// Where hooks are if the configuration names no other directory.
pub const DEFAULT_DIRECTORY: &str = "/etc/virtuozo/hooks";

/// The hooks of a machine.
#[derive(Debug, Clone)]
pub struct HookPrograms {
    /// The directory that they lie in.
    pub directory: PathBuf,
    /// The program `virtuozo`, which kills a hook when this process dies; `None`: it goes on then.
    pub guard: Option<PathBuf>,
}

impl Default for HookPrograms {
    fn default() -> Self {
        Self {
            directory: DEFAULT_DIRECTORY.into(),
            guard: None,
        }
    }
}

impl HookPrograms {
    /// A command with the path of its program. One without a directory is looked for in that of the hooks.
    ///
    /// # Errors
    /// Why this machine does not run it, as a sentence.
    pub(crate) fn command(&self, command: &[String]) -> Result<Vec<String>, String> {
        let Some((program, arguments)) = command.split_first() else {
            return Err("it names no program".to_owned());
        };
        let path = self.directory.join(program);
        let is_plain = |part| matches!(part, Component::RootDir | Component::Normal(_));
        let below = path.strip_prefix(&self.directory).unwrap_or(Path::new(""));
        if below == Path::new("") || !path.components().all(is_plain) {
            return Err(format!(
                "the machine {} runs hooks only from {} (hooks_dir in its configuration): put the program there, or \
                 name that directory there",
                workers::machine(),
                self.directory.display()
            ));
        }
        let path = path.to_string_lossy().into_owned();
        Ok(std::iter::once(path)
            .chain(arguments.iter().cloned())
            .collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_programs_of_the_directory_are_run() {
        let programs = HookPrograms::default();
        let command = |program: &str| programs.command(&[program.to_owned(), "x".to_owned()]);
        for (program, path) in [
            ("mount", "/etc/virtuozo/hooks/mount"),
            ("sub/mount", "/etc/virtuozo/hooks/sub/mount"),
            ("/etc/virtuozo/hooks/mount", "/etc/virtuozo/hooks/mount"),
        ] {
            assert_eq!(command(program).unwrap(), [path, "x"]);
        }
        for program in [
            "",
            "/bin/sh",
            "../key",
            "/etc/virtuozo/hooks",
            "/etc/virtuozo/hooks/../key",
            "/etc/virtuozo/hooksx/mount",
        ] {
            assert!(
                command(program).unwrap_err().contains("hooks_dir"),
                "{program}"
            );
        }
        assert!(programs.command(&[]).is_err());
    }
}
